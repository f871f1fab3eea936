"""Rows that are too large to be sent along with a tool call."""

from collections.abc import Iterable, Sequence

from agentrft import wire
from agentrft.data import Sample
from agentrft.spec import HttpToolSpec, ToolSpec
from agentrft.traffic import MAX_BODY_BYTES


def oversized_rows(specs: Sequence[ToolSpec], samples: Iterable[Sample]) -> str | None:
    """What to say of rows with which every call of an HTTP tool is over the limit; None where there are none."""
    takers = [spec.name for spec in specs if isinstance(spec, HttpToolSpec) and spec.format == "function_call"]
    if not takers:
        return None
    found = [sample.sample_id for sample in samples if len(wire.dump(sample.item).encode()) > MAX_BODY_BYTES]
    if not found:
        return None
    return (
        f"{len(found)} row(s) are larger than {MAX_BODY_BYTES // 1024**2} MB, the first of them {found[0]}: a row goes "
        f"with each call of {', '.join(takers)}, so the model reads a 413 instead of an answer"
    )
