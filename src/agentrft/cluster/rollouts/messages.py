"""What the job's process and a rollout worker say to each other; both number what they ask for."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from agentrft.engine import Generation, Sampling
from agentrft.rollout import EarlierAttempts, Rollout, RolloutTask
from agentrft.tracing import Attributes
from agentrft.traffic import Admission, CallerState, Fault, Seen

# --- to a worker


@dataclass(frozen=True)
class Run:
    """Begin a rollout, which has this number from now on; `spans` is what its spans have, None for no spans."""

    rollout: int
    task: RolloutTask
    earlier: EarlierAttempts | None
    spans: Attributes | None


@dataclass(frozen=True)
class Cancel:
    """Nobody wants this rollout any more."""

    rollout: int


@dataclass(frozen=True)
class Answer:
    """To the question of that number."""

    question: int
    value: Any


ToWorker = Run | Cancel | Answer

# --- from a worker


@dataclass(frozen=True)
class AttemptBegan:
    """Of a rollout, before anything of it is done."""

    rollout: int
    trace_id: str
    attempt: int


@dataclass(frozen=True)
class Generate:
    """A turn; the answer is a `Generation` or an `EngineFailed`."""

    question: int
    rollout: int
    new_ids: list[int]
    sampling: Sampling


@dataclass(frozen=True)
class Restarted:
    """The rollout's context is to be forgotten."""

    rollout: int


@dataclass(frozen=True)
class Ended:
    """A rollout, with its record."""

    rollout: int
    record: Rollout


@dataclass(frozen=True)
class Failed:
    """A rollout, by a mistake in the program: why."""

    rollout: int
    why: str


@dataclass(frozen=True)
class Enter:
    """A request is to be sent: see `Gate.enter`. The answer is an `Entered`; `question` then names the request."""

    question: int
    gate: str
    caller: CallerState
    is_repeated: bool
    queue_left_s: float
    outage_deadline_s: float


@dataclass(frozen=True)
class Leave:
    """What came of a request: see `Gate.leave`. The answer is a `Left`, where there is a fault.

    Attributes:
        request: the number of its `Enter`.
        asks_for: what the call is about, by a digest; None without a fault.
    """

    question: int
    request: int
    seen: Seen
    asks_for: str | None


@dataclass(frozen=True)
class GiveBack:
    """A request was not sent, was broken off, or need not wait any longer."""

    request: int


@dataclass(frozen=True)
class TookCredential:
    """See `Gate.took_credential`."""

    gate: str
    took: bool


@dataclass(frozen=True)
class Notice:
    """For whoever listens to the job's notices."""

    level: str
    text: str


FromWorker = AttemptBegan | Generate | Restarted | Ended | Failed | Enter | Leave | GiveBack | TookCredential | Notice

# --- answers


@dataclass(frozen=True)
class EngineFailed:
    """An `EngineFailure`, of that kind."""

    kind: str
    message: str


@dataclass(frozen=True)
class Outage:
    """An `OutageError`, of that kind."""

    kind: str
    message: str


@dataclass(frozen=True)
class NoSlot:
    """A `TimeoutError` of a gate."""

    message: str


@dataclass(frozen=True)
class Entered:
    """Attributes:
    outcome: None where the endpoint went down meanwhile.
    is_down: whether calls wait for it now.
    """

    outcome: Admission | Outage | NoSlot | None
    caller: CallerState
    is_down: bool


@dataclass(frozen=True)
class Left:
    """Attributes:
    fault: as the call is to take it.
    is_down: whether calls wait for the endpoint now.
    """

    fault: Fault | None
    caller: CallerState
    is_down: bool


@dataclass(frozen=True)
class Started:
    """A worker is ready."""

    process_id: int


@dataclass(frozen=True)
class NotStarted:
    """Why a worker cannot run the job's rollouts, for a user."""

    cause: str
    remedy: str


@dataclass(frozen=True)
class Batch:
    """What a worker had to say since it was asked last, in order."""

    messages: Sequence[FromWorker] = field(default_factory=tuple[FromWorker, ...])


EngineAnswer = Generation | EngineFailed
