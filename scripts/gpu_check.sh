#!/usr/bin/env bash
# Everything once on a GPU, in at most ten minutes: parity with the CPU, decoding and updates against what the card can
# do, memory against its prediction, and a job of three steps. Writes benchmarks/results/gpu_check-DEVICE.json; ends with
# 1 if anything was not right. docs/benchmarks.md says what its numbers mean.
#
#   scripts/gpu_check.sh                          on this machine's GPU
#   scripts/gpu_check.sh --device cpu --small     without one, in shapes that take half a minute
#   scripts/gpu_check.sh --out FOLDER --commit SHA --only PART
#   scripts/gpu_check.sh --pack .gpu_wheels       on a machine with a network: what the other one lacks, to be taken along
#
#   PYTHON=python3     the interpreter; by default that of .venv where there is one, else python3
#   GPU_WHEELS=DIR     where `--pack` left its wheels, if not in .gpu_wheels
#
# A machine for models needs Python 3.12 with torch, transformers and peft, and no network: with the wheels beside the
# checkout nothing is downloaded, and they are installed for this run alone.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python="${PYTHON:-}"
if [[ -z $python ]]; then
    python=python3
    if [[ -x .venv/bin/python ]]; then python=.venv/bin/python; fi
fi
export PYTHONPATH="$PWD/src:$PWD${PYTHONPATH:+:$PYTHONPATH}"

if [[ ${1:-} == --pack ]]; then
    exec "$python" -m benchmarks.gpu.pack "${2:?the folder for the wheels}"
fi

wheels="${GPU_WHEELS:-.gpu_wheels}"
if [[ $python != .venv/bin/python ]] && compgen -G "$wheels/*.whl" >/dev/null; then
    site="$(mktemp -d)"
    trap 'rm -rf "$site"' EXIT
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --disable-pip-version-check \
        --target "$site" "$wheels"/*.whl
    export PYTHONPATH="$PYTHONPATH:$site"
fi
if ! "$python" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("pyarrow") is None)'; then
    export PYTHONPATH="$PYTHONPATH:$PWD/benchmarks/gpu/standins"
fi
"$python" -m benchmarks.gpu "$@"
