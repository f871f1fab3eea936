"""python -m tests.models.paged_decode: the GPU's attention over pages against plain products, on the GPU or, with
TRITON_INTERPRET=1, in Triton's interpreter, which has to be on before Triton is imported.
"""

import importlib
import itertools
import os
from typing import Any

import torch
from torch import Tensor

from agentrft.models import paged_decode

PAGE_TOKENS = 64
# Key-value heads, query heads of each, and head_dim.
SHAPES = [(2, 1, 64), (1, 3, 64), (2, 4, 128), (1, 7, 80), (1, 20, 32)]
ERRORS = {torch.bfloat16: 2e-2, torch.float16: 3e-3}


def expected(query: Tensor, keys: Tensor, values: Tensor, table: Tensor, lengths: Tensor, scaling: float) -> Tensor:
    """In float32, [sequences, heads, head_dim]."""
    rows = []
    group = query.shape[1] // keys.shape[1]
    for own, pages, length in zip(query.float(), table, lengths.tolist(), strict=True):
        key, value = (
            part[pages].float().transpose(0, 1).flatten(1, 2)[:, :length].repeat_interleave(group, dim=0)
            for part in (keys, values)
        )
        scores = (own.unsqueeze(1) @ key.transpose(1, 2)) * scaling
        rows.append((scores.softmax(dim=-1) @ value).squeeze(1))
    return torch.stack(rows)


def check(kv_heads: int, group: int, head_dim: int, dtype: torch.dtype, device: torch.device) -> None:
    source = torch.Generator().manual_seed(head_dim + group)
    whole = torch.randn(16, 2, kv_heads * PAGE_TOKENS * head_dim, generator=source).to(device, dtype)
    keys, values = (whole[:, part].view(16, kv_heads, PAGE_TOKENS, head_dim) for part in (0, 1))
    lengths = torch.tensor([1, 64, 65, 700], device=device)
    table = torch.tensor([[3], [4], [5], [0]]).repeat(1, 11)
    table[2, 1] = 6
    table[3] = torch.tensor([0, 3, 5, 1, 2, 7, 8, 15, 14, 10, 11])
    table = table.to(device)
    # Nobody may be reached by what is behind a sequence's end, or in pages that it has not.
    values[9] = float("nan")
    values[6, :, 1:] = float("nan")
    # As the model gives it: head by head.
    query = torch.randn(kv_heads * group, 4, head_dim, generator=source).to(device, dtype).transpose(0, 1)
    found = paged_decode.attend_paged(query, keys, values, table, lengths, head_dim**-0.5)
    wanted = expected(query, keys, values.nan_to_num(0.0), table, lengths, head_dim**-0.5)
    torch.testing.assert_close(found.float(), wanted, rtol=ERRORS[dtype], atol=ERRORS[dtype])


def check_split(pages: int, rows: int, processors: int) -> None:
    parts, of_part = paged_decode.split(pages, rows, processors)
    assert (parts - 1) * of_part < pages <= parts * of_part
    assert parts <= paged_decode.MOST_SPLITS
    assert parts == 1 or of_part >= paged_decode.LEAST_PAGES


def mend_interpreter() -> None:
    """Triton 3.6's loops over loaded bounds take an array of one element for an integer, which NumPy 2.4 refuses; and
    its products take bfloat16's bits for numbers.
    """
    interpreter: Any = importlib.import_module("triton.runtime.interpreter")
    patch = interpreter._patch_lang_tensor

    def patched(tensor: Any, scope: Any) -> None:
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    interpreter._patch_lang_tensor = patched
    builder, types = interpreter.InterpreterBuilder, interpreter.tl
    product = builder.create_dot

    def widened(handle: Any) -> Any:
        if handle.dtype.scalar != types.bfloat16:
            return handle
        data = interpreter._convert_float(handle.data, types.bfloat16, types.float32, None).view("float32")
        return interpreter.TensorHandle(data, types.float32)

    builder.create_dot = lambda self, left, right, *rest: product(self, widened(left), widened(right), *rest)


def main() -> None:
    if os.environ.get("TRITON_INTERPRET") == "1":
        mend_interpreter()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for processors, dtype, shape in itertools.product((1, 132), ERRORS, SHAPES):
        # On few processors contexts stay whole.
        paged_decode._processors = lambda _, processors=processors: processors
        check(*shape, dtype, device)
    for case in ((1, 1, 132), (16, 512, 132), (128, 8, 132), (2000, 8, 132)):
        check_split(*case)
    print("all right")


if __name__ == "__main__":
    main()
