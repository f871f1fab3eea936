#!/usr/bin/env bash
# Set up the vLLM peer in a new virtual environment: bash install.sh VENV
set -euo pipefail
python3 -m venv "$1"
"$1/bin/pip" install --quiet --no-deps -r "$(dirname "$(readlink -f "$0")")/requirements.txt"
"$1/bin/python" -c 'import torch; assert torch.version.cuda is None, f"{torch.__version__} is no CPU build of torch"'
