"""A cache of job events as JSON text.

Pages of the newest events are what clients poll most. A stored event never changes, so it is read from the database and
written as JSON once.
"""

from collections.abc import Sequence

from agentrft import wire
from agentrft.server.objects.jobs import event_object
from agentrft.store import JobStore

# Kept at once, 2 to 3 KB each where they have metrics.
MOST_TEXTS = 2048


class EventCache:
    """JSON texts by event number. It may be used from several threads; two that miss at the same time both read."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._kept: dict[int, str] = {}

    def of(self, numbers: Sequence[int]) -> list[str]:
        """The JSON texts of the events with these numbers, in this order."""
        # Another thread may put an empty one in its place meanwhile.
        kept = self._kept
        texts = {number: kept[number] for number in numbers if number in kept}
        for event in self._store.events_of([number for number in numbers if number not in texts]):
            texts[event.number] = wire.dump_always(event_object(event))
        if len(self._kept) > MOST_TEXTS:
            self._kept = {}
        self._kept.update(texts)
        return [texts[number] for number in numbers]
