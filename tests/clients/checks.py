"""What the clients check, and the rows of docs/migrate-from-openai.md that each check stands for.

Imported twice: where the tests run, for names and rows, and in a client's own environment, which has the SDK, the
standard library, and nothing of ours. A row exists only as an argument of the decorator of the check that shows it.
"""

import importlib
import inspect
import json
import os
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

# In this order in one process: the first one trains the model that the others use.
PROGRAMS = (
    "notebook",
    "files",
    "shapes",
    "tuning",
    "rows",
    "events",
    "dashboard",
    "checkpoints",
    "evals_download",
    "graders",
    "healthbench",
    "chat",
    "responses",
    "compare_evals",
    "azure",
)
State = Literal["same", "differs", "ignored", "refused"]


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        section: a key of `table.SECTIONS`.
        field: what is compared, in Markdown.
        hosted: what the hosted API does with it.
        here: what is different, ignored or refused here, and why; empty for `same`.
    """

    section: str
    field: str
    hosted: str
    state: State
    here: str = ""


def same(section: str, field: str, hosted: str) -> Row:
    return Row(section, field, hosted, "same")


def differs(section: str, field: str, hosted: str, here: str) -> Row:
    return Row(section, field, hosted, "differs", here)


NO_SWITCH = "a model thinks as it was trained to, where its chat template has no switch for it"


def ignored(section: str, field: str, hosted: str, here: str) -> Row:
    """Accepted, without effect, and the client is told so."""
    return Row(section, field, hosted, "ignored", here)


def refused(section: str, field: str, hosted: str, why: str) -> Row:
    return Row(section, field, hosted, "refused", why)


@dataclass
class World:
    """What a program is given, and what the first program found.

    Attributes:
        model: a hosted model's name, which the server has weights for.
        endpoints: the URL of the user's tool, grader and judge (`endpoints.py`).
        files: ids by name: `train`, `validation`.
        long: whether checks that take long are run.
        job: the job of the first program, as the SDK's object, once it ended.
    """

    model: str
    endpoints: str
    seed: int = 0
    long: bool = True
    files: dict[str, str] = field(default_factory=dict)
    job: Any = None

    @property
    def server(self) -> str:
        """The server's URL without `/v1`."""
        return os.environ["OPENAI_BASE_URL"].removesuffix("/v1")

    def received(self, path: str) -> list[dict[str, Any]]:
        """The requests that came to one of the user's endpoints."""
        with urllib.request.urlopen(f"{self.endpoints}/received", timeout=30) as answer:
            return [one for one in json.load(answer) if one["path"] == path]


@dataclass(frozen=True)
class Check:
    program: str
    run: Callable[[World], None]
    rows: tuple[Row, ...]
    takes_long: bool

    @property
    def id(self) -> str:
        return f"{self.program}-{self.run.__name__}"


_checks: list[Check] = []


def check(*rows: Row, takes_long: bool = False) -> Callable[[Callable[[World], None]], Callable[[World], None]]:
    """Register a function as a check of its program; it raises where the API is not what `rows` say.

    Args:
        takes_long: left out of `make test`, where another test is of the same thing.
    """

    def register(function: Callable[[World], None]) -> Callable[[World], None]:
        program = inspect.getmodule(function).__name__.rpartition(".")[2]  # type: ignore[union-attr]
        _checks.append(Check(program, function, rows, takes_long))
        return function

    return register


def all_checks() -> list[Check]:
    """In the order that they run in."""
    for program in PROGRAMS:
        importlib.import_module(f"tests.clients.programs.{program}")
    return sorted(_checks, key=lambda one: PROGRAMS.index(one.program))


def until(is_so: Callable[[], Any], *, timeout_s: float = 300, every_s: float = 0.2) -> Any:
    """The first value that counts as true."""
    deadline = time.monotonic() + timeout_s
    while not (found := is_so()):
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(every_s)
    return found
