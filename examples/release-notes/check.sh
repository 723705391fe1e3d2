#!/usr/bin/env bash
# Queues two runs, lets a worker take them, approves one and denies the other.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
store=(--store "sqlite:$TMPDIR/x.db")

fail() { echo "check: $*" >&2; exit 1; }

commit() { git -c user.name=Check -c user.email=check@example.org commit -q --allow-empty -m "$1"; }

state() { "$AGENT_BIN" runs show "$1" -o json "${store[@]}" | python3 -c 'import json, sys; print(json.load(sys.stdin)["state"])'; }

await_question() {
    for _ in $(seq 300); do
        [ "$(state "$1")" = input_required ] && return
        sleep 0.2
    done
    fail "run $1 never asked; it is $(state "$1")"
}

mkdir "$TMPDIR/repo"
cd "$TMPDIR/repo"
git init -q
commit "Add a parser for dates"
commit "fix(parser): take leap years"
commit "Describe the date format"
commit "Drop support for Julian dates"

approved=$("$AGENT_BIN" run -d "$here" "${store[@]}" --params '{"title": "Version 1.1"}')
denied=$("$AGENT_BIN" run -d "$here" "${store[@]}" --params '{"out": "denied.md"}')

"$AGENT_BIN" worker "$here" "${store[@]}" &
worker=$!
trap 'kill "$worker" 2>/dev/null || true' EXIT

await_question "$approved"
await_question "$denied"
[ ! -e RELEASE_NOTES.md ] || fail "the notes were written before anybody approved"
commit "Add something after the draft"

"$AGENT_BIN" runs approve "$approved" publish "${store[@]}"
"$AGENT_BIN" runs deny "$denied" publish "${store[@]}"
"$AGENT_BIN" runs wait "$approved" "${store[@]}"
"$AGENT_BIN" runs wait "$denied" "${store[@]}"

grep -q '^# Version 1.1' RELEASE_NOTES.md || fail "the notes have no title"
grep -A2 '^## Added' RELEASE_NOTES.md | grep -q 'Add a parser for dates' || fail "an addition is missing"
grep -A2 '^## Fixed' RELEASE_NOTES.md | grep -q '^- take leap years' || fail "a fix is missing"
grep -A2 '^## Removed' RELEASE_NOTES.md | grep -q 'Drop support' || fail "a removal is missing"
! grep -q 'after the draft' RELEASE_NOTES.md || fail "the notes are not the ones that were approved"
[ ! -e denied.md ] || fail "denied notes were written"
echo "check: published what was approved, and nothing else"
