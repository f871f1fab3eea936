"""A finding in words."""

from agentrft.report.why.findings import Finding, Findings


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
    if one.suspicion:
        parts.append(f"Suspect: {one.suspicion}.")
    return " ".join(parts)


def _steps(window: tuple[int, int]) -> str:
    return f"{window[0]} to {window[1]}" if window[0] != window[1] else str(window[0])


def _change(values: tuple[float | None, float | None]) -> str:
    before, after = ("none" if value is None else f"{value:.2f}" for value in values)
    return f"{before} → {after}"
