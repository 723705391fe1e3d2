#!/usr/bin/env bash
# Triages the sample, and once more with a kill -9 in the middle: the reports are equal, no chunk is read twice.
# Then a log of 10 MiB, and one that is no text.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
program="$EXAMPLE_BIN_DIR/log-triage"
fail() { echo "check: $*" >&2; exit 1; }

cd "$TMPDIR"
answer=$("$program" "$here/sample.log" --store sqlite:plain.db --report plain.md)
grep -q "^$(wc -l <"$here/sample.log" | tr -d ' ') lines" plain.md || fail "the report counts other lines than wc"
errors=$(grep -c ' ERROR ' "$here/sample.log")
reported=$(awk '/^## /{inside = ($2 == "ERROR")} inside && /^- /{sum += $2} END{print sum + 0}' plain.md)
[ "$reported" = "$errors" ] || fail "$reported errors reported, $errors in the log"
chunks=$(wc -l <plain.md.log)

again=$("$program" "$here/../log-triage/sample.log" --store sqlite:plain.db --report ./plain.md --pause-ms 1)
[ "$again" = "$answer" ] || fail "other spellings of the same paths got another answer: $again"
[ "$(wc -l <plain.md.log)" = "$chunks" ] || fail "the same job was done twice"

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

awk 'BEGIN{for (i = 0; i < 180000; i++) printf "2026-03-14T09:00:%02dZ %s request %d of user %d was served\n", i % 60, i % 9 ? "INFO" : "ERROR", i, i % 77}' >long.log
[ "$(wc -c <long.log)" -gt $((10 << 20)) ] || fail "the long log is too short to prove anything"
"$program" long.log --store sqlite:long.db --report long.md 2>long.news || { tail -3 long.news; fail "a long log failed"; }
grep -q '^180000 lines' long.md && grep -q '^- 20000 × request' long.md || fail "the long log was not counted: $(head -20 long.md)"

printf 'INFO fine\n\377\n' >odd.log
"$program" odd.log --store sqlite:odd.db 2>odd.news && fail "a log that is no text was taken"
grep -q 'odd\.log.*UTF-8' odd.news || fail "the error does not name the file: $(cat odd.news)"
echo "check: $chunks chunks, each read once, kill -9 included; 10 MiB counted"
