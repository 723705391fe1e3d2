#!/usr/bin/env bash
# Triages the sample, and once more with a kill -9 in the middle: the reports are equal, no chunk is read twice.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
program="$EXAMPLE_BIN_DIR/log-triage"
fail() { echo "check: $*" >&2; exit 1; }

cd "$TMPDIR"
"$program" "$here/sample.log" --store sqlite:plain.db --report plain.md
grep -q "^$(wc -l <"$here/sample.log" | tr -d ' ') lines" plain.md || fail "the report counts other lines than wc"
errors=$(grep -c ' ERROR ' "$here/sample.log")
reported=$(sed -n '/^## ERROR/,/^## WARN/s/^- \([0-9]*\) .*/\1/p' plain.md | paste -sd+ | bc 2>/dev/null || true)
[ -z "$reported" ] || [ "$reported" = "$errors" ] || fail "$reported errors reported, $errors in the log"
chunks=$(wc -l <plain.md.log)

slow=("$program" "$here/sample.log" --store sqlite:killed.db --report killed.md --pause-ms 1000)
"${slow[@]}" & victim=$!
for _ in $(seq 600); do
    [ "$(wc -l 2>/dev/null <killed.md.log || echo 0)" -ge 2 ] && break
    sleep 0.05
done
sleep 0.3 # what has left its line is recorded by now, and the next chunks are being read
kill -9 "$victim"
wait "$victim" 2>/dev/null || true
before=$(wc -l <killed.md.log)
[ "$before" -lt "$chunks" ] || fail "the kill came too late to prove anything"

"${slow[@]}"
cmp <(sed 1d plain.md) <(sed 1d killed.md) || fail "the reports differ"
[ "$(sort -u killed.md.log | wc -l)" = "$chunks" ] || fail "a chunk was not read"
[ "$(wc -l <killed.md.log)" = "$chunks" ] || fail "a chunk was read twice"
echo "check: $chunks chunks, each read once, kill -9 included"
