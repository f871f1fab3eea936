"""What is done beside the answers, for as long as the server runs."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from sqlalchemy.exc import SQLAlchemyError

from agentrft.errors import ArtifactsError

logger = logging.getLogger(__name__)


async def keep_doing(
    what: str, work: Callable[[], Awaitable[object]], *, every_s: float, woken: asyncio.Event | None = None
) -> None:
    """Do it again and again until cancelled. Nothing that it raises ends it: without it the server would only seem
    to live.

    Args:
        what: it is called in the log.
        woken: when set, the next time is now.
    """
    while True:
        try:
            await work()
        except (OSError, SQLAlchemyError, ArtifactsError) as error:
            logger.warning("%s failed, which is tried again: %s", what, error)
        except Exception:  # the boundary: whatever it was, the next time may go well
            logger.exception("%s failed, which is tried again", what)
        if woken is None:
            await asyncio.sleep(every_s)
            continue
        try:
            async with asyncio.timeout(every_s):
                await woken.wait()
        except TimeoutError:
            pass
        woken.clear()
