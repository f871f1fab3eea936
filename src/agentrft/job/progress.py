"""What a running job tells whoever watches; the command line draws it."""

from typing import Any, Protocol

from agentrft.rollout import Rollout


class Progress(Protocol):
    """All calls come from the job's event loop and must return at once."""

    def started(self, job_id: str, total_steps: int) -> None:
        """The job begins, or goes on."""
        ...

    def phase(self, name: str, step: int, total: int) -> None:
        """A phase begins: `total` is its rollouts, or its batches in the warm start."""
        ...

    def rollout(self, rollout: Rollout) -> None:
        """A rollout of the phase ended, or was found finished on resuming."""
        ...

    def committed(self, phase: str, step: int, metrics: dict[str, Any]) -> None:
        """A step of a phase is on disk."""
        ...

    def message(self, level: str, text: str) -> None:
        """An event of the job: see `Event`."""
        ...


class NoProgress:
    """Nobody watches."""

    def started(self, job_id: str, total_steps: int) -> None:
        pass

    def phase(self, name: str, step: int, total: int) -> None:
        pass

    def rollout(self, rollout: Rollout) -> None:
        pass

    def committed(self, phase: str, step: int, metrics: dict[str, Any]) -> None:
        pass

    def message(self, level: str, text: str) -> None:
        pass
