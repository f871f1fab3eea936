"""Answers, held against the SDK's own models."""

import json
import warnings
from typing import Any


def checked(raw: Any) -> Any:
    """The parsed answer, which its model validates strictly, and writes without a warning."""
    parsed = raw.parse()
    model = type(parsed)
    if hasattr(parsed, "data") and hasattr(parsed, "_options"):
        # Pages are the SDK's own; what they hold is ours.
        for item in parsed.data:
            type(item).model_validate(item.model_dump(by_alias=True, warnings=False))
        raw_items = json.loads(raw.http_response.text)["data"]
        assert len(raw_items) == len(parsed.data) > 0
        for given, item in zip(raw_items, parsed.data, strict=True):
            type(item).model_validate(given)
    else:
        model.model_validate(json.loads(raw.http_response.text))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parsed.to_json()
    return parsed
