"""Events as the JSON that clients get. One that was told never changes, and pages of the newest ones are polled: each
is read and written out once."""

import json
from collections.abc import Sequence

from agentrft.server.objects.jobs import event_object
from agentrft.store import JobStore

# Kept at once, 2 to 3 KB each where they have metrics.
MOST_TEXTS = 2048


class EventCache:
    """Used from several threads; what two of them read at once is read twice."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._kept: dict[int, str] = {}

    def of(self, numbers: Sequence[int]) -> list[str]:
        """Those with these numbers, in this order."""
        # Another thread may put an empty one in its place meanwhile.
        kept = self._kept
        texts = {number: kept[number] for number in numbers if number in kept}
        for event in self._store.events_of([number for number in numbers if number not in texts]):
            texts[event.number] = json.dumps(event_object(event), ensure_ascii=False)
        if len(self._kept) > MOST_TEXTS:
            self._kept = {}
        self._kept.update(texts)
        return [texts[number] for number in numbers]
