"""What the first rank and another one say to each other: pickled, over a socket that only the two of them have.

The first rank sends commands: the name of a method of `rank.Rank`, and its arguments. The other one says when it is
`READY`, sends an `Answer` to those that have one, and last of all why it ended, if that was not asked of it.
"""

import pickle
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

READY = "ready"


@dataclass(frozen=True)
class Command:
    """Something that a rank does."""

    name: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Answer:
    """What came of a command."""

    value: Any


@dataclass(frozen=True)
class Failure:
    """Why a rank ended.

    Attributes:
        cause, remedy: for a user.
        cut_off: whether another rank was the cause: this one waited for it.
    """

    cause: str
    remedy: str
    cut_off: bool = False


def send(connection: Connection, message: Any) -> None:
    """Not by `Connection.send`, which would share tensors' memory instead of sending what is in it."""
    connection.send_bytes(pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL))


def receive(connection: Connection) -> Any:
    """The next message.

    Raises:
        EOFError: there is none, as the other side has ended.
    """
    try:
        message = connection.recv_bytes()
    except ConnectionError as error:
        # So it looks where the two are on different machines.
        raise EOFError("the connection was cut") from error
    return pickle.loads(message)
