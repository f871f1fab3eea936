"""What a job that ended says of its result: which step it is, by what, and what the test samples say of it."""

from collections.abc import Sequence

from agentrft.errors import UserError
from agentrft.job.recovery import stored_rollouts
from agentrft.report.averages import mean
from agentrft.report.intervals import paired_interval
from agentrft.rollout import Rollout, by_sample
from agentrft.store import JobRow, JobStore
from agentrft.store.layout import TEST


def result_words(job: JobRow) -> str:
    """Which step is the job's result, and by what."""
    if not job.has_rollouts:
        return f"The result is step {job.total_steps}, the last one"
    if job.best_step is None:
        return f"The result is step {job.total_steps}, the last one: there are no validation rows to choose by"
    if job.best_step == 0:
        what = "the model as it was" if job.setting("warm_start") is None else "the model as the warm start left it"
        return f"The result is step 0, {what}: on the validation samples the last step is worse by more than chance"
    if job.best_step == job.total_steps:
        return f"The result is step {job.best_step}, the last one: no validated step before it is better beyond chance"
    return (
        f"The result is step {job.best_step} of {job.total_steps}: on the validation samples it is better than the "
        "last one by more than chance"
    )


def words_of_test(store: JobStore, job_id: str) -> str | None:
    """The mean reward of the test samples before and after, with the 95 % interval of the mean difference by sample.

    None where there are none; without the interval where rollouts are not on this machine.
    """
    rows = sorted((row for row in store.metrics(job_id) if row["phase"] == TEST), key=lambda row: row["step"])
    if not rows:
        return None
    first, last = rows[0], rows[-1]
    if first is last:
        return f"Test: reward {first['reward_mean']:.3f} on {first['samples']} samples"
    told = (
        f"Test: reward {first['reward_mean']:.3f} as the model began, {last['reward_mean']:.3f} at step {last['step']}"
        f", on {last['samples']} samples"
    )
    folder = store.job_folder(job_id)
    try:
        before, after = (_rewards(stored_rollouts(folder, TEST, row["step"])) for row in (first, last))
    except UserError:
        return told
    found = paired_interval(before, after)
    return f"{told} (difference {found.mean:+.3f}, 95 % interval {found.low:+.3f} to {found.high:+.3f})"


def _rewards(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """The mean reward of each sample that has one."""
    rewarded = by_sample(one for one in rollouts if one.reward is not None)
    return {sample: mean(one.reward or 0.0 for one in members) for sample, members in rewarded.items()}
