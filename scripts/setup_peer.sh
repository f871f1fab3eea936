#!/usr/bin/env bash
# Makes .venv-peer-NAME, the environment of a peer that the benchmarks run beside us: scripts/setup_peer.sh trl|vllm
# Safe to run again: when nothing changed it ends at once.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

name="${1:?trl or vllm}"
folder="benchmarks/peers/$name"
venv=".venv-peer-$name"
state="$(find "$folder" scripts/setup_peer.sh \( -name requirements.txt -o -name '*.sh' \) -exec sha256sum {} + | sort | sha256sum | cut -d' ' -f1)"
[[ -f $venv/.ready && $(<"$venv/.ready") == "$state" ]] && exit 0

echo "Making $venv ..."
if [[ -f $folder/install.sh ]]; then
    bash "$folder/install.sh" "$venv"
else
    "${PYTHON:-python3.11}" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$folder/requirements.txt"
fi
printf '%s' "$state" >"$venv/.ready"
