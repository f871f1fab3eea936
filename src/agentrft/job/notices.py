"""What happens at the endpoints, for whoever listens."""

import logging

from agentrft.traffic import Notify

logger = logging.getLogger(__name__)


class Notices:
    """Passes each notice on to all listeners, and to the log."""

    def __init__(self) -> None:
        self._listeners: list[Notify] = []

    def listen(self, listener: Notify) -> None:
        self._listeners.append(listener)

    def __call__(self, level: str, text: str) -> None:
        logger.log(logging.INFO if level == "info" else logging.WARNING, "%s", text)
        for listener in self._listeners:
            listener(level, text)
