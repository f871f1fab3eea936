"""How somebody goes on after a verdict: in the words of the command line, or of the API."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Ways:
    """What a remedy names in braces, such as `{read}`.

    Attributes:
        read: a sentence on where the rollouts can be read.
        warm_start: what to do about demonstrations; it follows a "to" or stands after a comma.
        skip_baseline: what starts training whatever the baseline.
    """

    read: str
    warm_start: str
    skip_baseline: str

    def filled_in(self, remedy: str) -> str:
        """A remedy in these words. Other braces stay as they are."""
        for name, words in asdict(self).items():
            remedy = remedy.replace(f"{{{name}}}", words)
        return remedy


def cli_ways(*, has_warm_start: bool = False) -> Ways:
    """For who has a job's file and the command line."""
    return Ways(
        read="Read a few attempts with `agentrft rollouts JOB --worst 3`.",
        warm_start=_warm_start(has_warm_start, "`warm_start: {training_file: ...}`"),
        skip_baseline="`baseline: {enabled: false}`",
    )


def api_ways(eval_id: str, *, has_warm_start: bool) -> Ways:
    """For who has the API alone; `eval_id` is the job's."""
    return Ways(
        read=f"Read a few attempts: they are the output items of the eval `{eval_id}`, in its run of step 0.",
        warm_start=_warm_start(has_warm_start, '`extra_body={"warm_start": {"training_file": "file-…"}}`'),
        skip_baseline='`extra_body={"baseline": {"enabled": False}}`',
    )


def _warm_start(has_one: bool, field: str) -> str:
    if has_one:
        return "give the warm start more demonstrations or epochs (its `n_epochs`)"
    return f"add a warm start on about a hundred demonstrations ({field})"
