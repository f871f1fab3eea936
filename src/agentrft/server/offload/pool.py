"""Warm processes of one module, for work that comes again and again."""

from collections.abc import Mapping
from typing import Any

from agentrft.server.offload.admission import Admission
from agentrft.server.offload.processes import Launcher, WorkProcess


class WorkPool:
    """Used from one event loop; a process is started when there is none that is free."""

    def __init__(self, launcher: Launcher, module: str, admission: Admission) -> None:
        self._launcher = launcher
        self._module = module
        self._admission = admission
        self._free: list[WorkProcess] = []
        self._busy: set[WorkProcess] = set()

    async def ask(self, told: Mapping[str, Any], *, timeout_s: float) -> Any:
        """The answer of one of them. Whoever stops waiting, or waits too long, kills it.

        Raises:
            ApiError: 503, too many wait already.
            ProcessDied: it ended instead.
            TimeoutError: it took too long.
        """
        async with self._admission.slot():
            process = self._free.pop() if self._free else WorkProcess(self._launcher, self._module)
            self._busy.add(process)
            try:
                return await process.ask(told, timeout_s=timeout_s)
            finally:
                self._busy.discard(process)
                if process.lives:
                    self._free.append(process)

    async def close(self) -> None:
        for process in (*self._free, *self._busy):
            await process.close()
