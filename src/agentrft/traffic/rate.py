"""At most so many requests a second, evenly spaced."""

import asyncio
import time


class RateLimit:
    """Args:
    per_second: None for no limit.
    """

    def __init__(self, per_second: float | None) -> None:
        self._interval_s = 0.0 if per_second is None else 1.0 / per_second
        self._next = 0.0

    async def wait(self) -> None:
        """Wait for the next sending time."""
        if not self._interval_s:
            return
        now = time.monotonic()
        send_at = max(now, self._next)
        self._next = send_at + self._interval_s
        if send_at > now:
            await asyncio.sleep(send_at - now)
