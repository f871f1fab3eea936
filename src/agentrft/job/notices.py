"""What happens at the endpoints, for whoever listens."""

import logging

from agentrft.traffic import Notify

logger = logging.getLogger(__name__)


MAX_KEPT = 100


class Notices:
    """Passes each notice on to all listeners, and to the log. The first listener gets what came before it, too."""

    def __init__(self) -> None:
        self._listeners: list[Notify] = []
        self._early: list[tuple[str, str]] = []

    def listen(self, listener: Notify) -> None:
        self._listeners.append(listener)
        early, self._early = self._early, []
        for level, text in early:
            listener(level, text)

    def __call__(self, level: str, text: str) -> None:
        logger.log(logging.INFO if level == "info" else logging.WARNING, "%s", text)
        if not self._listeners and len(self._early) < MAX_KEPT:
            self._early.append((level, text))
        for listener in self._listeners:
            listener(level, text)
