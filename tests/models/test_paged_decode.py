"""The GPU's attention over pages gives what plain products give. Without a GPU it runs in Triton's interpreter."""

import os
import subprocess
import sys

import pytest
import torch

from agentrft.models.decoding import decode_for


def test_single_tokens_over_their_pages() -> None:
    pytest.importorskip("triton", reason="Triton, which comes with PyTorch for GPUs, is not here")
    environment = dict(os.environ) if torch.cuda.is_available() else {**os.environ, "TRITON_INTERPRET": "1"}
    command = [sys.executable, "-m", "tests.models.paged_decode"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.stdout.strip() == "all right", done.stderr[-3000:]


def test_without_a_kernel_pages_are_gathered() -> None:
    keys = torch.empty(1, 2, 64, 64, device="meta", dtype=torch.bfloat16)
    assert decode_for(keys, keys, 4, None) is None
