"""Running work that takes long, so that Ctrl-C ends it well."""

import asyncio
import atexit
import os
import signal
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from agentrft.cli.output import Output
from agentrft.errors import Interrupted

if TYPE_CHECKING:
    from agentrft.job import Stop

T = TypeVar("T")
SIGNALS = (signal.SIGINT, signal.SIGTERM)
STOPPING = "Stopping after what is running is saved; Ctrl-C again stops at once."


def run_stoppable(work: Callable[["Stop"], Coroutine[Any, Any, T]], output: Output) -> T:
    """Run `work(stop)` to its end. The first SIGINT or SIGTERM requests a stop, the second ends the process.

    Nothing is lost by the second one either: what was finished is on disk.
    """
    from agentrft.job import Stop

    async def main() -> T:
        stop = Stop()
        loop = asyncio.get_running_loop()

        def handle(number: int, _: FrameType | None) -> None:
            if stop.requested:
                output.errors.show_cursor()
                # The learner's thread cannot be interrupted, and a normal exit would wait for it.
                os._exit(Interrupted.exit_code)
            stop.request()
            # From here on the handler stays, so that a second signal means the same until the process is gone. While
            # the interpreter shuts down it would give the signal back its default, which kills: it is ignored there.
            atexit.register(signal.signal, number, signal.SIG_IGN)
            # The loop may be asleep: a signal alone does not wake it.
            loop.call_soon_threadsafe(output.errors.print, STOPPING)

        before = {number: signal.signal(number, handle) for number in SIGNALS}
        try:
            return await work(stop)
        finally:
            if not stop.requested:
                for number, handler in before.items():
                    signal.signal(number, handler)

    return asyncio.run(main())
