"""A finding in words."""

from agentrft.report.why.finding import Crowding, Finding, Findings


def sentence(one: Finding, found: Findings) -> str:
    """What became of a behaviour, with its numbers."""
    early, late = _steps(found.early), _steps(found.late)
    parts = [
        f"The agent {one.name}: in {one.share_early:.0%} of the rollouts in steps {early}, "
        f"in {one.share_late:.0%} in steps {late}.",
    ]
    if one.is_reinforced or one.is_unlearned:
        verb = "paid for it" if one.is_reinforced else "paid against it"
        parts.append(
            f"The updates {verb}: {abs(one.credit):.0%} of what rewards set apart within groups went along with it "
            f"(z {one.credit_z:+.1f}), a mean advantage of {one.advantage:+.2f}, {one.update_share:.0%} of the update."
        )
    parts.append(f"Mean reward with it {_change(one.reward_with)}, without it {_change(one.reward_without)}.")
    if one.crowding:
        parts.append(crowded(one.crowding))
    if one.suspicion:
        parts.append(f"Suspect: {one.suspicion}.")
    return " ".join(parts)


def doubt(one: Finding, other: Crowding) -> str:
    """Of a habit that is no suspect and took the place of what earned more where it fails."""
    return f"No suspect, but the agent {one.name} instead of what may be better in some cases. {crowded(other)}"


def crowded(other: Crowding) -> str:
    """Whose place a habit took, with its numbers."""
    parts = [
        f"It took the place of “{other.name}”, {_share(other.share[0])} → {_share(other.share[1])}, which earned more "
        f"in {other.better} of the {other.samples} groups that have both."
    ]
    if other.failing:
        surely = "" if other.z <= 0 else ", beyond chance" if other.is_better else ", which may be chance"
        parts.append(
            f"In {other.failing} of them others with the habit earned less than it does on average; there it earned "
            f"{other.habit_there:.2f}, and the other {other.other_there:.2f} (z {other.z:+.1f}{surely})."
        )
    parts.append(f"The best rollout of a group earned {_change(other.best)} (z {other.best_z:+.1f}).")
    return " ".join(parts)


def _share(value: float) -> str:
    return f"{value:.0%}" if value == 0 or value >= 0.01 else f"{value:.1%}"


def _steps(window: tuple[int, int]) -> str:
    return f"{window[0]} to {window[1]}" if window[0] != window[1] else str(window[0])


def _change(values: tuple[float | None, float | None]) -> str:
    before, after = ("none" if value is None else f"{value:.2f}" for value in values)
    return f"{before} → {after}"
