"""The curve over GPUs, as docs/images/scale.png."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

from benchmarks.harness import ROOT

matplotlib.use("Agg")
from matplotlib import pyplot  # after the choice of a back end without a display
from matplotlib.axes import Axes

PICTURE = ROOT / "docs" / "images" / "scale.png"


def draw(points: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]], path: Path = PICTURE) -> None:
    """Draw what came out.

    Args:
        points: of the curve, by rising number of engines.
        others: of other settings, each with a `name`.
    """
    figure, ((throughput, shares), (age, load)) = pyplot.subplots(2, 2, figsize=(10, 7))
    gpus = [point["engines"] for point in points]
    ideal = [point["tokens_per_s"] / point["ideal_share"] for point in points]
    _lines(throughput, gpus, {"ideal": ideal, "simulated": [point["tokens_per_s"] for point in points]})
    throughput.set(yscale="log", title="tokens a second that were trained on")
    shares_of = {"of ideal": "ideal_share", "engines idle": "idle_share", "driver busy": "driver_busy"}
    _lines(shares, gpus, {label: [point[name] for point in points] for label, name in shares_of.items()})
    for other in others:
        shares.plot([other["engines"]], [other["ideal_share"]], "x", label=other["name"])
    shares.axhline(0.9, color="grey", linewidth=0.5)
    shares.set(ylim=(0, 1.1), title="shares")
    shares.legend(fontsize=8)
    ages = {"oldest token": "off_policy_steps", "mean": "off_policy_steps_mean"}
    _lines(age, gpus, {label: [point[name] for point in points] for label, name in ages.items()})
    age.set(ylim=(0, None), title="staleness in updates")
    loads = {
        "database, written": "database_bytes_per_s",
        "object store, weights read": "bucket_read_bytes_per_s",
        "object store, rollouts written": "bucket_written_bytes_per_s",
    }
    _lines(load, gpus, {label: [point[name] / 1e6 for point in points] for label, name in loads.items()})
    load.set(yscale="log", title="MB a second")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _lines(axes: Axes, gpus: Sequence[int], lines: Mapping[str, Sequence[float]]) -> None:
    for label, values in lines.items():
        axes.plot(gpus, values, marker="o", markersize=4, label=label)
    axes.set(xscale="log", xlabel="GPUs that generate")
    axes.set_xticks(gpus, [str(number) for number in gpus])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
