"""The tools `shell` and `read_file` as HTTP endpoints, each rollout in the repository that its row names.

python -m examples.file_planning.tools --port 8770 --data examples/file_planning/data
"""

import functools
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from examples.common.tool_server import BadArguments, Call, PerRollout, Tool, serve, tool_app
from examples.file_planning import jail
from examples.file_planning.programs import inside
from examples.file_planning.shell import Limits, Shell

DATA = Path(__file__).parent / "data"
PORT = 8770
# What the agent reads of an output, by the row's difficulty.
LIMITS = {"small": Limits(lines=8, columns=72), "large": Limits(lines=50, columns=160)}
NOTHING = "(nothing)"
NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
CACHED_RESULTS = 8192
MAX_FILE_BYTES = 2_000_000

logger = logging.getLogger(__name__)


@dataclass
class Place:
    """Where the shell of a rollout is, from the repository's root on."""

    folder: str = "."


class RolloutStart(BaseModel):
    """What the harness sends before each attempt at a rollout."""

    trace_id: str


class PlanningTools:
    """The two tools over a folder of repositories.

    Args:
        jailed: whether programs run in bubblewrap; by default where it works.
    """

    def __init__(self, repositories: Path, *, jailed: bool | None = None) -> None:
        self._repositories = repositories.resolve()
        self._jailed = jail.works() if jailed is None else jailed
        self.places = PerRollout(Place)
        # A repository does not change, and the rollouts of a group ask much the same.
        self._run = functools.lru_cache(CACHED_RESULTS)(self._run_anew)

    def by_name(self) -> Mapping[str, Tool]:
        return {"shell": self.shell, "read_file": self.read_file}

    def shell(self, call: Call) -> str:
        """What a command line prints, in the folder that the rollout's earlier `cd` led to. Calls of one turn run side
        by side, so `cd` belongs in the command line that needs it."""
        root, place = self._root(call.item), self.places(call.trace_id)
        output, place.folder = self._run(root, place.folder, call.text("command"))
        return _limits(call.item).cut(output) or NOTHING

    def read_file(self, call: Call) -> str:
        """Lines of a file, by its path from the repository's root on: all that are shown, or those from `start` to
        `end`."""
        root, path = self._root(call.item), call.text("path")
        found = inside(path, root, root)
        if not found.is_file() or found.stat().st_size > MAX_FILE_BYTES:
            raise BadArguments(f"{path}: no such file; paths are from the repository's root on")
        lines = found.read_text(encoding="utf-8", errors="replace").splitlines()
        start, end = _line_number(call, "start", 1), _line_number(call, "end", len(lines))
        return _limits(call.item).cut("\n".join(lines[start - 1 : end])) or NOTHING

    def _root(self, item: dict[str, Any]) -> Path:
        name = item.get("repository")
        if not isinstance(name, str) or not NAME.fullmatch(name) or not (self._repositories / name).is_dir():
            raise BadArguments("the row names no repository that is here")
        return self._repositories / name

    def _run_anew(self, root: Path, folder: str, command: str) -> tuple[str, str]:
        output, ended = Shell(root, self._jailed).run(command, root / folder)
        return output, str(ended.relative_to(root))


def app(repositories: Path) -> FastAPI:
    """The tool server over a folder of repositories."""
    if not jail.works():
        logger.warning("bubblewrap makes no jail here: the list of programs and options alone keeps the shell in")
    tools = PlanningTools(repositories)
    made = tool_app("file planning", tools.by_name)

    @made.post("/hooks/start")
    async def start(begun: RolloutStart) -> dict[str, str]:
        """An attempt that is repeated has the same trace id; it begins at the root again."""
        tools.places(begun.trace_id).folder = "."
        return {"status": "ok"}

    return made


def _limits(item: dict[str, Any]) -> Limits:
    return LIMITS.get(str(item.get("difficulty")), LIMITS["small"])


def _line_number(call: Call, name: str, otherwise: int) -> int:
    value = call.arguments.get(name)
    if value is None:
        return otherwise
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise BadArguments(f"{name} must be a line number from 1 on")
    return value


def main() -> None:
    serve(lambda given: app(given.data / "repositories"), port=PORT, data=DATA)


if __name__ == "__main__":
    main()
