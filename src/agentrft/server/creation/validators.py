"""Files and jobs' data, looked at from the server's side: in a few processes of their own, each for one at a time."""

import logging
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from agentrft.graders.own_server import OwnServer, told_of
from agentrft.server.creation.validation import Problem
from agentrft.server.offload.admission import Admission
from agentrft.server.offload.pool import WorkPool
from agentrft.server.offload.processes import Launcher
from agentrft.spec import AnyJobSpec

logger = logging.getLogger(__name__)

MODULE = "agentrft.server.creation.validation_process"
# More would only take the processor from those who ask. Nobody is refused: what was taken is looked at.
LOOKS = {"max_running": 2, "max_waiting": sys.maxsize // 2, "retry_after_s": 0}
# Gigabytes of rows take minutes.
LOOK_S = 3600.0


class NotLookedAt(Exception):
    """What was to be looked at broke those who looked; the message says how."""


class Validators:
    """Used from one event loop."""

    def __init__(self, launcher: Launcher, own_server: Callable[[], OwnServer | None]) -> None:
        self._own_server = own_server
        self._pool = WorkPool(launcher, MODULE, Admission("data", **LOOKS))

    async def problem_of_file(self, path: Path) -> str | None:
        """Why no job could use a file for training; None if one could.

        Raises:
            NotLookedAt, ProcessDied, TimeoutError: it could not be looked at.
        """
        return await self._ask({"file": str(path)})

    async def problem_of(self, spec: AnyJobSpec) -> Problem | None:
        """The first fault of a job's files and graders. Raises as `problem_of_file`."""
        problem = await self._ask({"job": spec.model_dump(mode="json"), **told_of(self._own_server())})
        return None if problem is None else Problem(**problem)

    async def close(self) -> None:
        await self._pool.close()

    async def _ask(self, told: Mapping[str, Any]) -> Any:
        answer = await self._pool.ask(told, timeout_s=LOOK_S)
        if "broken" in answer:
            logger.error("looking at data broke:\n%s", answer["traceback"])
            raise NotLookedAt(answer["broken"])
        return answer["problem"]
