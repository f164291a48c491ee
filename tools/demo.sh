#!/usr/bin/env bash
# What `make run` shows: the bundled model answers a question it was not trained on, at two of its sizes.
set -euo pipefail
nestling=$1
ask() { printf '\n$ nestling run -m nano%s\n' "$(printf ' %q' "$@")"; "$nestling" run -m nano "$@"; echo; }
ask -p "What is 15 + 7?" --temp 0
ask -p "What is 15 + 7?" --temp 0 --size e2b
