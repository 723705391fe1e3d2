#!/usr/bin/env bash
# Runs the agent on a real folder with the real file server and a scripted model, and once more with a kill -9 in the middle.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
store="sqlite:$TMPDIR/x.db"

fail() { echo "check: $*" >&2; exit 1; }

command -v mcp-server-filesystem >/dev/null || PATH="$here/../../../target/peers/node_modules/.bin:$PATH"
command -v mcp-server-filesystem >/dev/null || fail "mcp-server-filesystem is not installed; \`cargo xtask servers\` installs it"

mkdir -p "$TMPDIR/folder/notes"
echo "The engine: every commit is synced before it is acknowledged." >"$TMPDIR/folder/notes/storage.md"
echo "The queue is a table of the same database; every commit is synced." >"$TMPDIR/folder/notes/queue.md"
export RESEARCH_DIR="$TMPDIR/folder" PATH
cd "$TMPDIR"
run=(run "$here" "How do runs survive a power cut?" --model "scripted/$here/script.yaml" --store "$store")

"$AGENT_BIN" "${run[@]}" >answer.txt 2>news.txt
grep -q "synced to disk before" answer.txt || fail "the answer is: $(cat answer.txt)"
grep -q "→ files__read_text_file" news.txt || fail "the tool calls were not shown: $(cat news.txt)"
grep -q "I look around first" news.txt || fail "the model's words were not shown"

# Killed as soon as the first tool has answered, and again: what was done is not done again.
"$AGENT_BIN" "${run[@]}" --new >/dev/null 2>killed.txt &
agent=$!
for _ in $(seq 400); do
    grep -q "✓ tool:" killed.txt && break
    sleep 0.02
done
kill -9 "$agent" 2>/dev/null || true
wait "$agent" 2>/dev/null || true
"$AGENT_BIN" "${run[@]}" >answer.txt 2>again.txt
grep -q "synced to disk before" answer.txt || fail "after the kill the answer is: $(cat answer.txt)"
steps=$("$AGENT_BIN" runs events last --types tool.call --store "$store" -o json | grep -c '"tool.call"' || true)
[ "$steps" -le 6 ] || fail "tools were called $steps times"
