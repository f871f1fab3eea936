"""Pages of lists."""

from collections.abc import Sequence
from typing import Any


def page(items: Sequence[dict[str, Any]], *, after: str | None, limit: int, with_ends: bool = False) -> dict[str, Any]:
    """A part of a list, beginning behind the item with the id `after`; nothing where there is no such item."""
    if after is not None:
        places = [place for place, item in enumerate(items) if item["id"] == after]
        items = items[places[0] + 1 :] if places else []
    data = list(items[:limit])
    found: dict[str, Any] = {"object": "list", "data": data, "has_more": len(items) > limit}
    return add_ends(found) if with_ends else found


def add_ends(found: dict[str, Any]) -> dict[str, Any]:
    """A page with the ids of its first and last item."""
    ids = [item["id"] for item in found["data"]]
    return {**found, "first_id": ids[0] if ids else None, "last_id": ids[-1] if ids else None}
