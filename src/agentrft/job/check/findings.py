"""What a check found: one list of findings, and the numbers behind them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from agentrft.errors import AgentRFTError, UserError

if TYPE_CHECKING:
    from agentrft.job.check.attacks import AttackReport
    from agentrft.job.check.endpoints import ToolReport
    from agentrft.job.check.estimate import Estimate
    from agentrft.job.check.grading import GraderReport
    from agentrft.job.check.rows import RowsReport

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: an "error" would fail the job, a "warning" spoil its training.
        part: of the job: "data", "tool 'search'", "grader", ...
        exit_code: of an error, as the command that runs the job would end.
    """

    level: Level
    part: str
    text: str
    remedy: str = ""
    exit_code: int = 0


@dataclass
class CheckReport:
    """All that `check_job` found; a part that could not be looked at is None or empty, and an error says why."""

    findings: list[Finding] = field(default_factory=list)
    data: "RowsReport | None" = None
    tools: "list[ToolReport]" = field(default_factory=list)
    grader: "GraderReport | None" = None
    attacks: "list[AttackReport]" = field(default_factory=list)
    estimate: "Estimate | None" = None
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """0, or that of the first error."""
        return next((finding.exit_code for finding in self.findings if finding.level == "error"), 0)

    def ok(self, part: str, text: str) -> None:
        self.findings.append(Finding("ok", part, text))

    def warn(self, part: str, text: str, remedy: str) -> None:
        self.findings.append(Finding("warning", part, text, remedy))

    def error(self, part: str, text: str, remedy: str, exit_code: int = UserError.exit_code) -> None:
        self.findings.append(Finding("error", part, text, remedy, exit_code))

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """An error that is raised inside becomes a finding."""
        try:
            yield
        except UserError as error:
            self.error(name, error.cause, error.remedy, error.exit_code)
        except AgentRFTError as error:
            self.error(name, str(error), "", error.exit_code)

    def as_dict(self) -> dict[str, Any]:
        return {"ok": self.exit_code == 0, **asdict(self)}
