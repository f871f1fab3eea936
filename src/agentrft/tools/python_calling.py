"""Running a user's code in this process, so that nothing that it raises reaches what runs the job.

`sys.exit()` raises SystemExit, `next()` StopIteration, a cancelled library CancelledError: to asyncio and to Python
each of these is a command. Here they are what a function failed with.
"""

import asyncio
import contextvars
import dis
import inspect
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from agentrft.tools.python_results import as_text, collected
from agentrft.wire import clean_text

MAX_CHARACTERS = 2000

# Tasks that were given up; asyncio itself holds them weakly.
_abandoned: set[asyncio.Task[Any]] = set()


@dataclass(frozen=True)
class Outcome:
    """What became of a call: the text of its value, or what it raised."""

    text: str = ""
    error: BaseException | None = None


async def run(function: Callable[[], Any], timeout_s: float) -> Outcome:
    """Call a function: a coroutine function here, anything else in a thread. A coroutine that it returns is awaited.

    Raises:
        TimeoutError: it took longer. A coroutine is cancelled, and left alone if it does not listen; a thread runs on.
    """
    task = asyncio.create_task(_run(function))
    _abandoned.add(task)
    task.add_done_callback(_abandoned.discard)
    try:
        done, _ = await asyncio.wait([task], timeout=timeout_s)
    except asyncio.CancelledError:
        task.cancel()
        raise
    if not done:
        task.cancel()
        raise TimeoutError
    return task.result()


def was_raised(error: BaseException) -> bool:
    """Whether code raised it on purpose. A KeyboardInterrupt of the user's keyboard comes at any other instruction."""
    if not isinstance(error, KeyboardInterrupt):
        return True
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    return place is not None and dis.opname[place.tb_frame.f_code.co_code[place.tb_lasti]] == "RAISE_VARARGS"


def described(error: BaseException) -> str:
    """Type and message of what a user's code raised, as text that can be stored."""
    try:
        message = str(error)
    except BaseException as second:  # an exception's text is the user's code, too
        if not was_raised(second):
            raise
        message = f"(its text cannot be read: {type(second).__name__})"
    return clean_text(f"{type(error).__name__}: {message}"[:MAX_CHARACTERS])


def innermost(error: BaseException) -> BaseException:
    """The one exception of a group that has but one, such as a TaskGroup's."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


async def _run(function: Callable[[], Any]) -> Outcome:
    if inspect.iscoroutinefunction(function):
        return await _awaited(function())
    returned = await _in_thread(lambda: _called(function))
    return returned if isinstance(returned, Outcome) else await _awaited(returned)


async def _in_thread(work: Callable[[], Any]) -> Any:
    """What `work` returns, from a thread of its own: asyncio's threads are few, others wait for them, and one that
    never returns would keep the process from ending.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()
    context = contextvars.copy_context()

    def settle(value: Any) -> None:
        if not future.done():
            future.set_result(value)

    def run() -> None:
        value = context.run(work)
        try:
            loop.call_soon_threadsafe(settle, value)
        except RuntimeError:  # the loop was closed meanwhile: nobody waits
            pass

    threading.Thread(target=run, name="agentrft-python-tool", daemon=True).start()
    return await future


def _called(function: Callable[[], Any]) -> Any:
    """The outcome, or something to await."""
    try:
        value = function()
        if inspect.isawaitable(value) or inspect.isasyncgen(value):
            return value
        return Outcome(as_text(value))
    except BaseException as error:  # see the module's docstring
        return Outcome(error=error)


async def _awaited(value: Awaitable[Any] | Any) -> Outcome:
    try:
        while inspect.isawaitable(value):
            value = await value
        if inspect.isasyncgen(value):
            value = await collected(value)
        return Outcome(as_text(value))
    except BaseException as error:  # see the module's docstring
        if not was_raised(error):
            raise
        return Outcome(error=error)
