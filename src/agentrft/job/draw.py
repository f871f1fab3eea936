"""Which samples a job draws, in which order: those of step 1, of step 2, and so on, as places of one long row.

A pure function of the seed, and of the rewards of earlier steps where difficulty counts, so that a resumed job draws
what the interrupted one drew.
"""

from agentrft.data import Sample
from agentrft.job.schedule import Difficulty, samples_of_step, shuffled
from agentrft.rollout import Rollout, by_sample
from agentrft.spec import ResolvedHyperparameters


class SampleDraw:
    """Of one job. Steps are numbered from 1, places from 0.

    Args:
        samples: that the job trains on.
        hyperparameters: `batch_size`, `sample_by` and `max_off_policy_steps` count.
        seed: the job's.
    """

    def __init__(self, samples: list[Sample], hyperparameters: ResolvedHyperparameters, seed: int) -> None:
        self._samples = samples
        self._batch = min(hyperparameters.batch_size, len(samples))
        self._by_difficulty = hyperparameters.sample_by == "difficulty"
        self._delay = hyperparameters.max_off_policy_steps
        self._seed = seed
        self._difficulty = Difficulty()
        self._unnoted: dict[int, list[Rollout]] = {}
        self._drawn: dict[int, list[Sample]] = {}

    def note(self, step: int, rollouts: list[Rollout]) -> None:
        """Remember the rollouts of a step that is committed, where later draws depend on them."""
        if self._by_difficulty:
            self._unnoted[step] = rollouts

    def of_step(self, step: int) -> list[Sample]:
        """The samples of a step; ask in the order of steps."""
        if step not in self._drawn:
            self._drawn[step] = self._draw(step)
        return self._drawn[step]

    def others(self, step: int, known: set[str]) -> list[Sample]:
        """Samples that may take the place of others in a step, in the order in which they do."""
        others = [sample for sample in self._samples if sample.sample_id not in known]
        if self._by_difficulty:
            return self._difficulty.samples_of_step(others, batch_size=len(others), seed=self._seed, step=step)
        return shuffled(others, f"{self._seed}/replaced/{step}")

    def forget_before(self, step: int) -> None:
        """Steps that nobody will ask for again."""
        for old in [drawn for drawn in self._drawn if drawn < step]:
            del self._drawn[old]

    def through(self, step: int) -> int:
        """How many samples the steps 1 to `step` draw."""
        epochs, steps = divmod(step, self._steps_per_epoch)
        return epochs * self._epoch + min(steps * self._batch, self._epoch)

    def step_of(self, place: int) -> int:
        """The step whose samples the one at this place is among."""
        epochs, rest = divmod(place, self._epoch)
        return epochs * self._steps_per_epoch + rest // self._batch + 1

    def at(self, place: int) -> Sample:
        """The sample at a place; ask in the order of their steps."""
        step = self.step_of(place)
        return self.of_step(step)[place - self.through(step - 1)]

    @property
    def _epoch(self) -> int:
        """Samples after which all begins anew: by difficulty every step draws from all."""
        return self._batch if self._by_difficulty else len(self._samples)

    @property
    def _steps_per_epoch(self) -> int:
        return -(-self._epoch // self._batch)

    def _draw(self, step: int) -> list[Sample]:
        if not self._by_difficulty:
            return samples_of_step(self._samples, batch_size=self._batch, seed=self._seed, step=step)
        # Only what is always known by then, so that a resumed job draws what the interrupted one drew.
        for known in sorted(noted for noted in self._unnoted if noted < step - self._delay):
            for sample_id, group in by_sample(self._unnoted.pop(known)).items():
                self._difficulty.record(sample_id, [one.reward for one in group if one.reward is not None])
        return self._difficulty.samples_of_step(self._samples, batch_size=self._batch, seed=self._seed, step=step)
