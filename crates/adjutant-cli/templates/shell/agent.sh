#!/bin/sh
# The input is one line of JSON: {"runId": ..., "input": {"messages": [{"role": "user", "content": "..."}]}}.
# Status 0 is success, 75 asks for another try later, everything else is a failure. Stderr is the log.
set -eu
input=$(cat)
text=$(printf '%s' "$input" | sed -n 's/.*"content":"\(\([^"\\]\|\\.\)*\)".*/\1/p')
echo "counting" >&2
words=$(printf '%s' "$text" | wc -w)
echo "$((words)) words"
