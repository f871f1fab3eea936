"""What became of a behaviour, and all that was found in a job: records that pages, reports and files share."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from agentrft.report.why.behaviour import Behaviour


@dataclass(frozen=True)
class Crowding:
    """Another behaviour whose place a habit took. Shares and rewards by time are of the first and the last third.

    Attributes:
        name: of the other.
        share: early and late, of the rollouts that could show the other.
        samples: groups in which some rollouts show the habit and some the other, over all steps.
        better: those of them in which the other earned more on average.
        failing: those of them in which the habit earned less than usual, told by the other rollouts that show it.
        habit_there, other_there: mean rewards in those: each rollout of the habit is left out when it is told by the
            rest whether it is one of them, so that neither mean is of what was chosen for being low.
        z: how far from chance it is that the other earned more there.
        best: the mean over groups of their best reward, early and late.
        best_z: how far from chance the change of that is.
        is_better: whether the other earned more there beyond chance.
    """

    name: str
    share: tuple[float, float]
    samples: int
    better: int
    failing: int
    habit_there: float
    other_there: float
    z: float
    best: tuple[float, float]
    best_z: float
    is_better: bool = False

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Crowding":
        """As `asdict` gave it."""
        return cls(**{**value, **{name: tuple(value[name]) for name in ("share", "best")}})


@dataclass(frozen=True)
class Finding:
    """A behaviour, and what became of it. Shares and rewards are of the first and of the last third of the steps.

    Attributes:
        shown, possible: rollouts that show it, and that could.
        credit: of all that rewards set apart within groups, the part that goes along with it: -1 to 1.
        credit_z, share_z: how far from chance the credit and the change of the share are.
        advantage: mean, of those that show it.
        update_share: of the update, what is of rollouts that show it: the sum of |advantage| x tokens.
        reward_with, reward_without: early and late; None of no rollouts.
        by_step: step, share, and the rewards with and without, of each step.
        holdout_credit: of each holdout grader, as `credit`.
        also: other names for nearly the same rollouts.
        along: what was paid for only where this was.
        is_reinforced, is_unlearned: paid for, or paid against, beyond chance.
        has_changed: whether its share did, beyond chance.
        crowding: whose place it took; None where it took that of none.
        suspicion: why it looks like a short cut; empty where it does not.
    """

    behaviour: Behaviour
    shown: int
    possible: int
    share_early: float
    share_late: float
    credit: float
    credit_z: float
    share_z: float
    advantage: float
    update_share: float
    reward_with: tuple[float | None, float | None]
    reward_without: tuple[float | None, float | None]
    by_step: list[tuple[int, float, float | None, float | None]]
    holdout_credit: dict[str, float] = field(default_factory=dict[str, float])
    also: list[str] = field(default_factory=list[str])
    along: list[str] = field(default_factory=list[str])
    is_reinforced: bool = False
    is_unlearned: bool = False
    has_changed: bool = False
    crowding: Crowding | None = None
    suspicion: str = ""
    before: list[str] = field(default_factory=list[str])
    after: list[str] = field(default_factory=list[str])

    @property
    def name(self) -> str:
        return self.behaviour.name

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Finding":
        """As `as_dict` gave it."""
        rest = {name: one for name, one in value.items() if name not in ("name", "kind", "given")}
        rest |= {name: tuple(rest[name]) for name in ("reward_with", "reward_without")}
        rest["by_step"] = [tuple(one) for one in rest["by_step"]]
        rest["crowding"] = Crowding.from_dict(rest["crowding"]) if rest.get("crowding") else None
        return cls(Behaviour(value["name"], value["kind"], value["given"]), **rest)

    def as_dict(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "behaviour"}
        values["crowding"] = asdict(self.crowding) if self.crowding else None
        return {"name": self.name, "kind": self.behaviour.kind, "given": self.behaviour.given, **values}


@dataclass(frozen=True)
class Findings:
    """What was found in a job.

    Attributes:
        suspects: short cuts, the surest first.
        reinforced, unlearned: what the updates paid for or against, the most first.
        others: what is neither, but changed beyond chance.
        looked_at: behaviours that were tested; what the same rollouts show, or all others, is one.
        early, late: the steps that were compared.
    """

    suspects: list[Finding]
    reinforced: list[Finding]
    unlearned: list[Finding]
    others: list[Finding]
    looked_at: int
    groups: int
    early: tuple[int, int]
    late: tuple[int, int]

    @classmethod
    def nothing(cls) -> "Findings":
        """Of no rollouts."""
        return cls([], [], [], [], 0, 0, (0, 0), (0, 0))

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Findings":
        """As `as_dict` gave it."""
        kinds = {
            name: [Finding.from_dict(one) for one in value[name]]
            for name in ("suspects", "reinforced", "unlearned", "others")
        }
        early, late = ((int(value[name][0]), int(value[name][1])) for name in ("early", "late"))
        return cls(**kinds, looked_at=value["looked_at"], groups=value["groups"], early=early, late=late)

    @property
    def all(self) -> list[Finding]:
        """Every finding once."""
        return [*self.reinforced, *self.unlearned, *self.others]

    @property
    def unproven(self) -> list[Finding]:
        """Habits that are no suspects, but took the place of what earned more where they fail: by chance, as far as the
        rollouts can say, or without a loss to the best of them."""
        return [one for one in self.reinforced if not one.suspicion and one.crowding and one.crowding.z > 0]

    def as_dict(self) -> dict[str, Any]:
        return {
            **{
                name: [one.as_dict() for one in getattr(self, name)]
                for name in ("suspects", "reinforced", "unlearned", "others")
            },
            "looked_at": self.looked_at,
            "groups": self.groups,
            "early": self.early,
            "late": self.late,
        }
