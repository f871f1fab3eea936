#!/usr/bin/env bash
# Writes requirements.lock anew: the exact versions that a fresh environment gets today.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check -e ".[quickstart,graders,mcp,server,dashboard,pdf,s3,mlflow,otel,tensorboard,wandb,cluster,dev]"
{
    echo "# Made by scripts/lock.sh: everything that .[quickstart,graders,mcp,server,dashboard,pdf,s3,mlflow,otel,tensorboard,wandb,cluster,dev] brings. Used as constraints by scripts/setup.sh, which installs graders-core of graders."
    # torch's build (+cpu, +cu…) and the CUDA libraries that come with it differ from machine to machine.
    "$folder/venv/bin/python" -m pip freeze --exclude-editable |
        sed -E 's/^(torch==[^+]+)\+.*/\1/' |
        grep -vE '^(nvidia-|cuda-|triton==)'
} >"$folder/lock"
mv "$folder/lock" requirements.lock
chmod 644 requirements.lock
