"""What a system is: its data, its tool server, its job and what is measured of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from agentrft.rollout import Rollout

ROOT = Path(__file__).parents[2]
Values = dict[str, float | None]


@dataclass(frozen=True)
class Measure:
    """A number of a rollout that the results tell.

    Attributes:
        name: its key in what `System.measures` returns.
        label: what tables call it.
        better: where it should go.
        told_as: the mean over samples, or the median over rollouts, which a few slow ones do not move.
    """

    name: str
    label: str
    better: Literal["higher", "lower"]
    told_as: Literal["mean", "median"] = "mean"


@dataclass(frozen=True)
class System:
    """An example that is trained and measured like the others.

    Attributes:
        name: of its folder in `examples/`.
        key: its name in the results' JSON.
        title: what tables call it.
        write_data: writes `train.jsonl`, `validation.jsonl`, `test.jsonl` and `demonstrations.jsonl` into a folder, of
            a seed and a difficulty.
        measures: of one rollout and its sample's row; None where there is nothing to measure.
        told: the measures that the table has, the most important first.
    """

    name: str
    key: str
    title: str
    write_data: Callable[[Path, int, str], None]
    measures: Callable[[Rollout, Mapping[str, Any]], Values]
    told: tuple[Measure, ...]

    @property
    def folder(self) -> Path:
        return ROOT / "examples" / self.name
