#!/usr/bin/env bash
# What `make run` shows: the bundled model answers questions it was not trained on, at two of its sizes, about a picture,
# and about what it hears.
set -euo pipefail
nestling=$1
examples=$(dirname "$0")/../models/nano/examples
show() { printf '\n$ nestling%s\n' "$(printf ' %q' "$@")"; "$nestling" "$@"; echo; }
show run -m nano -p "What is 15 + 7?" --temp 0
show run -m nano -p "What is 15 + 7?" --temp 0 --size e2b
show run -m nano --image "$examples/shapes.png" -p "How many shapes are there?" --temp 0
show run -m nano --image "$examples/shapes.png" -p "What colour is the heart?" --temp 0
show transcribe -m nano "$examples/speech.ogg" --language English
