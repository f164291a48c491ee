#!/usr/bin/env bash
# What `make run` shows: the bundled model answers questions it was not trained on, at two of its sizes, about a picture,
# and about what it hears.
set -euo pipefail
nestling=$1
examples=$(dirname "$0")/../models/nano/examples
show() { printf '\n$ nestling%s\n' "$(printf ' %q' "$@")"; "$nestling" "$@"; echo; }
show run -m nano -p "What is 15 + 7?" --temp 0
show run -m nano -p "What is 15 + 7?" --temp 0 --size e2b
for picture in "$examples"/*.png; do show run -m nano --image "$picture" -p "What is in the picture?" --temp 0; done
for sound in "$examples"/*.ogg "$examples"/*.flac; do
  [ -e "$sound" ] && show transcribe -m nano "$sound" --language English
done
