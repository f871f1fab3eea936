"""What an hour of a GPU and a judge's tokens cost: a table that is built in, and a user's own in its place."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from agentrft.errors import UserError
from agentrft.spec.yaml_files import read_yaml
from agentrft.wire import is_object

REMEDY = "docs/plan.md has the form of the file."
MILLION = 1e6
FIELDS = ("date", "gpu_hour", "judges")
JUDGE_FIELDS = ("input", "output")


@dataclass(frozen=True)
class PriceTable:
    """Prices in US dollars.

    Attributes:
        date: when they were looked up.
        gpu_hour: by GPU, for one of them.
        judges: by a judge's model, for a million tokens: (input, output).
    """

    date: str
    gpu_hour: dict[str, float]
    judges: dict[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])

    def of_judge(self, model: str, prompt_tokens: float, completion_tokens: float) -> float | None:
        """What so many tokens of a judge cost; None where the table lacks it."""
        if model not in self.judges:
            return None
        prompt, completion = self.judges[model]
        return (prompt * prompt_tokens + completion * completion_tokens) / MILLION


# An assumption, and no offer: prices of one GPU on demand differ by a factor of three between providers. H100: the
# median of https://aimultiple.com/gpu-index; H200, A100: the middle of the specialised providers' of
# https://www.mercatus-ai.com/blog/cloud-gpu-pricing; B200, 4090: https://deploybase.ai/articles/rtx-4090-cloud. Of the
# others no source was at hand: they are scaled by memory and age. This machine costs nothing unless a file says so.
BUILT_IN = PriceTable(
    date="2026-05",
    gpu_hour={
        "4090": 0.34,
        "5090": 0.70,
        "a100": 1.30,
        "a100-40g": 1.00,
        "b200": 6.00,
        "h100": 2.95,
        "h200": 4.00,
        "l4": 0.60,
        "l40s": 0.90,
        "this machine": 0.0,
    },
)


def load_prices(path: Path | None) -> PriceTable:
    """The built-in table, with what a file says in the place of its entries.

    Args:
        path: of YAML with any of `date`, `gpu_hour` (dollars by GPU) and `judges` (by model `input` and `output`,
            dollars for a million tokens).

    Raises:
        UserError: the file is none of these, or a price is no number from 0.
    """
    if path is None:
        return BUILT_IN
    if not path.is_file():
        raise UserError(f"--prices: {path} is no file.", REMEDY)
    given = read_yaml(path)
    if not is_object(given) or not given:
        raise UserError(f"{path}: prices must be a mapping of {', '.join(FIELDS)}.", REMEDY)
    unknown = sorted(set(given) - set(FIELDS))
    if unknown:
        raise UserError(f"{path}: unknown field '{unknown[0]}'; it takes {', '.join(FIELDS)}.", REMEDY)
    hours = {name: _price(path, f"gpu_hour.{name}", one) for name, one in _entries(path, given, "gpu_hour").items()}
    judges = {name: _judge(path, name, one) for name, one in _entries(path, given, "judges").items()}
    date = str(given.get("date", f"{path.name}, undated"))
    return PriceTable(date, {**BUILT_IN.gpu_hour, **hours}, {**BUILT_IN.judges, **judges})


def _entries(path: Path, given: dict[str, Any], name: str) -> dict[str, Any]:
    entries: Any = given.get(name, {})
    if not is_object(entries):
        raise UserError(f"{path}: '{name}' must be a mapping.", REMEDY)
    return {str(key): value for key, value in cast(dict[Any, Any], entries).items()}


def _judge(path: Path, name: str, given: Any) -> tuple[float, float]:
    if not is_object(given) or set(given) != set(JUDGE_FIELDS):
        raise UserError(f"{path}: judges.{name} takes {' and '.join(JUDGE_FIELDS)}, both of them.", REMEDY)
    prompt, completion = (_price(path, f"judges.{name}.{one}", given[one]) for one in JUDGE_FIELDS)
    return prompt, completion


def _price(path: Path, name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise UserError(f"{path}: {name} must be a number of dollars, not {value!r}.", REMEDY)
    return float(value)
