"""The header that lists what of a request was accepted and has no effect."""

import re
from collections.abc import Iterable

WARNING_HEADER = "X-AgentRFT-Warning"
# Names may come from a request; longer lists are cut.
UNPRINTABLE = re.compile(r"[^\x20-\x7e]")
MOST_CHARACTERS = 1000


def ignored_header(fields: Iterable[str]) -> dict[str, str]:
    """`X-AgentRFT-Warning: ignored: reasoning.effort, user`; no header where nothing was ignored."""
    listed = UNPRINTABLE.sub("?", ", ".join(fields))
    return {WARNING_HEADER: f"ignored: {listed[:MOST_CHARACTERS]}"} if listed else {}
