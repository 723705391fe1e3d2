#!/usr/bin/env bash
# Runs the agent on a real file, and once more with a kill -9 in the middle.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
store="sqlite:$TMPDIR/x.db"
source="$here/../../docs/architecture.md"
steps="count words
longest sentences
read
top terms
write report"

fail() { echo "check: $*" >&2; exit 1; }

verify() { # the report and the log in the current folder
    grep -q '^# Words in architecture.md' word-report.md || fail "the report has no title"
    grep -q "^$(wc -w <"$source" | tr -d ' ') words in " word-report.md || fail "the words are counted wrong"
    grep -q '^## Longest sentences' word-report.md || fail "the report is not complete"
    [ "$(sort word-report.log)" = "$steps" ] || fail "not each step was done once: $(tr '\n' ',' <word-report.log)"
}

mkdir "$TMPDIR/plain" "$TMPDIR/killed"

cd "$TMPDIR/plain"
"$AGENT_BIN" run "$here" "$source" --store "$store"
verify

cd "$TMPDIR/killed"
slow=(run "$here" "$source" --store "$store" --params '{"pause_ms": 1500}')
"$AGENT_BIN" "${slow[@]}" &
agent=$!
for _ in $(seq 600); do
    [ "$(wc -l 2>/dev/null <word-report.log || echo 0)" -ge 2 ] && break
    kill -0 "$agent" 2>/dev/null || fail "the run ended before it could be killed"
    sleep 0.1
done
sleep 0.3 # the second step's record is written now, and the third step has begun
kill -9 "$agent"
wait "$agent" 2>/dev/null || true
[ "$(wc -l <word-report.log)" -eq 2 ] || fail "the kill came too late to prove anything"

"$AGENT_BIN" "${slow[@]}"
verify
echo "check: each step was done once, kill -9 included"
