#!/bin/sh
# Puts the published Python libraries of OpenAI and Anthropic where the tests look for them: into a virtual environment
# under the target folder. Does nothing when they are there already.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../../../../target}
venv=$target/model-sdks
if cmp -s "$here/requirements.txt" "$venv/installed.txt"; then
    exit 0
fi
python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
cp "$here/requirements.txt" "$venv/installed.txt"
