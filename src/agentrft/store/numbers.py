"""Numbers as JSON can hold them."""

import math
from typing import Any


def finite(value: Any) -> Any:
    """`value` with null for the numbers that JSON cannot hold."""
    if isinstance(value, dict):
        return {name: finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
