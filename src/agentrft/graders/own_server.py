"""The server that a process grades for: how judges that are models of that server are asked.

Set around the making of graders, and read by judges as they are made. The address and the token are of the server's
present run: they are told to its processes when they start, and stored nowhere.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from typing import Any

TOKEN_HEADER = "X-AgentRFT-Judge-Token"


@dataclass(frozen=True)
class OwnServer:
    """How a server's own processes reach it.

    Attributes:
        url: of its API, on loopback, with `/v1`.
        token: lets a request ask models there, whatever keys the server wants, and nothing else.
        withheld: names of variables of its environment that jobs may not read.
    """

    url: str
    token: str = field(repr=False)
    withheld: tuple[str, ...] = ()


def told_of(server: OwnServer | None) -> dict[str, Any]:
    """What a process is told of its server, in JSON; `grading_for_told` reads it."""
    return {"own_server": None if server is None else asdict(server)}


_own_server: ContextVar[OwnServer | None] = ContextVar("agentrft-own-server", default=None)


@contextmanager
def grading_for(server: OwnServer | None) -> Iterator[None]:
    """Graders that are made meanwhile are a server's; None is no server."""
    token = _own_server.set(server)
    try:
        yield
    finally:
        _own_server.reset(token)


def grading_for_told(told: Mapping[str, Any]) -> AbstractContextManager[None]:
    """As `grading_for`, in a process that was told of its server by `told_of`."""
    given = told.get("own_server")
    return grading_for(None if given is None else OwnServer(**{**given, "withheld": tuple(given["withheld"])}))


def own_server() -> OwnServer | None:
    """The server that what is made now grades for; None on the command line."""
    return _own_server.get()
