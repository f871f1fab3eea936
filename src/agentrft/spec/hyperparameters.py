"""Hyperparameters: what a user may set, and the values that "auto" became."""

from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from agentrft.spec.base import SpecModel

Auto = Literal["auto"]
PositiveInt = Annotated[int, Field(ge=1)]
CreditBy = Literal["rollout", "turn", "observation"]
AlgorithmName = Literal["grpo", "dr_grpo", "dapo", "rloo", "gspo", "cispo", "maxrl"]

LORA_LEARNING_RATE = 2e-4
FULL_LEARNING_RATE = 2e-5
ROLLOUTS_PER_MULTIPLIER = 8
# Of the training rollouts, what all validations cost together; how many there are at most; rollouts that one of several
# has at least, and that a single one has; and rollouts of a sample at most.
EVALUATION_SHARE, EVALUATIONS, ENOUGH_ROLLOUTS, LEAST_ROLLOUTS, MOST_EVAL_SAMPLES = 0.1, 4, 60, 8, 8
# Optimizer steps of an update: docs/learning.md has what more and fewer came to.
MINIBATCHES = 4
# Successes that an update replays, and the weight of their likelihood.
REPLAY_ROLLOUTS, REPLAY_WEIGHT = 0, 0.0
# By how much of itself an update lowers and raises a token's probability, unless the algorithm's paper says otherwise.
CLIP = (0.2, 0.2)
CLIPS = {"dapo": (0.2, 0.28), "gspo": (3e-4, 4e-4), "cispo": (1.0, 4.0)}
# What the API takes beside these: how hard the model thinks, which a job file says by `chat_template_kwargs`.
EFFORT = "reasoning_effort"
HOSTED_ALONE = (EFFORT,)
# Steps between checkpoints where all weights are trained: one takes up to 16 bytes a weight.
FULL_CHECKPOINT_INTERVAL = 8
# With fewer, a group that has something to teach is too often taken for one that has not.
DECIDED_AFTER = 8
# Importance ratios of tokens that are older say little, and the truncation takes most of what they say.
MOST_OFF_POLICY_STEPS = 16


class Hyperparameters(SpecModel):
    """Everything that is left at "auto" is chosen by `resolve` and recorded with the job.

    Attributes:
        batch_size: samples in one step; "auto" is 8, or all where there are fewer.
        n_epochs: passes over the training samples; "auto" is 1, and more for fewer than 100 samples.
        learning_rate_multiplier: of 2e-4 for LoRA and 2e-5 for full weights; the rate falls linearly to a tenth.
        compute_multiplier: exploration: rollouts per sample are round(8 x it), at least 2.
        eval_interval: steps between validations. Where this, `eval_samples` and `eval_rows` are left open, all
            validations together cost a tenth of the training rollouts.
        eval_samples: rollouts of each sample in a validation.
        eval_rows: validation samples that are rolled out.
        checkpoint_interval: steps between the checkpoints that a killed job goes on from; the updates since the newest
            are made again from their stored rollouts. "auto" is 1, and 8 where all weights are trained. Validated
            steps, the last one and one that the job stops at have a checkpoint whatever it says.
        max_steps: steps of the job; an explicit `n_epochs` bounds it.
        temperature: of the policy's sampling, in training and validation.
        top_p: share of the probability that is sampled from.
        max_tokens_per_turn: tokens that one turn may sample; a turn that is cut off is no answer. "auto" is 512, and
            4096 where the model thinks, as far as the context has it.
        max_episode_steps: turns of one rollout.
        max_context_tokens: prompt, turns and tool results together; "auto" is what the job needs, as far as model and
            memory have it.
        lora_rank: of the adapters, or "full" to train all weights.
        lora_experts: whether LoRA changes the experts of a mixture, too.
        max_grad_norm: the gradient's norm is cut to this.
        algorithm: a name of `agentrft.learner.algorithms`.
        minibatches: optimizer steps that an update makes of a step's rollouts, a part of the groups for each; "auto" is
            4.
        update_epochs: how often an update sees each group.
        clip_low: by how much of itself one update lowers a token's probability before the algorithm takes its gradient
            away.
        clip_high: by how much of itself one update raises it, likewise.
        advantage_by: what is compared with what: "rollout" with the group; "turn", each turn with those of other
            rollouts that went on from the very same context; "observation", with those that had just read the same.
        advantage_std_floor: rewards of a group that deviate by less than this are not made into advantages of full
            size; in the reward's own unit.
        kl_weight: weight in the loss of the divergence from the policy that training began with.
        clip_cov: share of the tokens that lose their gradient, since they take most of the entropy (arXiv:2505.22617).
        overlong: a rollout that ended for want of tokens is a failure ("fail"), or is left out ("mask").
        length_penalty: what a rollout loses of its reward that sampled all it may; one that leaves a quarter loses
            nothing.
        replay_rollouts: successes of earlier steps that each update makes more likely, beside what it learns of its own
            rollouts; those first that are rare for their sample.
        borrow_answers: where one rollout of a sample was right, others that had its answer before them, and gave
            another one, are taught it, too.
        replay_weight: weight in the loss of the likelihood of replayed and borrowed tokens.
        sample_by: "epoch" takes every sample once before any twice; "difficulty" draws those less that were all right
            or all wrong lately.
        dynamic_sampling: groups of a step, at most, whose rewards are all alike and which are replaced by groups of
            other samples.
        decide_after: a group whose first so many rollouts are all right is not sampled further.
        max_off_policy_steps: updates that the policy which sampled a token may lack when it is trained on. With 0,
            which is "auto", each step waits for its rollouts; with more, rollouts run ahead and go on over updates, by
            a copy of the model.
    """

    batch_size: Annotated[int, Field(ge=1, le=256)] | Auto = "auto"
    n_epochs: Annotated[int, Field(ge=1, le=50)] | Auto = "auto"
    learning_rate_multiplier: Annotated[float, Field(gt=0)] | Auto = "auto"
    compute_multiplier: Annotated[float, Field(gt=0.00001, le=10)] | Auto = "auto"
    eval_interval: PositiveInt | Auto = "auto"
    eval_samples: PositiveInt | Auto = "auto"
    eval_rows: PositiveInt | Auto = "auto"
    checkpoint_interval: PositiveInt | Auto = "auto"
    max_steps: PositiveInt | Auto = "auto"
    temperature: Annotated[float, Field(gt=0, le=2)] | Auto = "auto"
    top_p: Annotated[float, Field(gt=0, le=1)] | Auto = "auto"
    max_tokens_per_turn: PositiveInt | Auto = "auto"
    max_episode_steps: PositiveInt | Auto = "auto"
    max_context_tokens: PositiveInt | Auto = "auto"
    lora_rank: Annotated[int, Field(ge=1, le=1024)] | Literal["full"] | Auto = "auto"
    lora_experts: bool | Auto = "auto"
    max_grad_norm: Annotated[float, Field(gt=0)] | Auto = "auto"
    algorithm: AlgorithmName | Auto = "auto"
    minibatches: PositiveInt | Auto = "auto"
    update_epochs: Annotated[int, Field(ge=1, le=16)] | Auto = "auto"
    clip_low: Annotated[float, Field(gt=0, le=1)] | Auto = "auto"
    clip_high: Annotated[float, Field(gt=0)] | Auto = "auto"
    advantage_by: CreditBy | Auto = "auto"
    advantage_std_floor: Annotated[float, Field(ge=0)] | Auto = "auto"
    kl_weight: Annotated[float, Field(ge=0)] | Auto = "auto"
    clip_cov: Annotated[float, Field(ge=0, le=0.1)] | Auto = "auto"
    overlong: Literal["fail", "mask"] | Auto = "auto"
    length_penalty: Annotated[float, Field(ge=0)] | Auto = "auto"
    replay_rollouts: Annotated[int, Field(ge=0)] | Auto = "auto"
    borrow_answers: bool | Auto = "auto"
    replay_weight: Annotated[float, Field(ge=0)] | Auto = "auto"
    sample_by: Literal["epoch", "difficulty"] | Auto = "auto"
    dynamic_sampling: Annotated[int, Field(ge=0)] | Auto = "auto"
    decide_after: Annotated[int, Field(ge=2)] | Auto = "auto"
    max_off_policy_steps: Annotated[int, Field(ge=0, le=MOST_OFF_POLICY_STEPS)] | Auto = "auto"

    @property
    def rollouts_per_sample(self) -> int:
        """How many rollouts a group has."""
        return max(2, round(ROLLOUTS_PER_MULTIPLIER * chosen(self.compute_multiplier, 1.0)))

    @property
    def episode_steps(self) -> int:
        """How many turns a rollout has, at most."""
        return chosen(self.max_episode_steps, 10)

    @property
    def reads_earlier_steps(self) -> bool:
        """Whether what a step does depends on the rollouts of all steps before it."""
        return self.sample_by == "difficulty" or chosen(self.replay_rollouts, REPLAY_ROLLOUTS) > 0

    @property
    def adapts_experts(self) -> bool:
        """Whether LoRA changes the experts of a mixture, too."""
        return chosen(self.lora_experts, True)

    def resolve(
        self, *, n_train: int, n_validation: int = 0, max_tokens_per_turn: int, max_context_tokens: int
    ) -> "ResolvedHyperparameters":
        """Replace every "auto" by a value.

        Args:
            n_train, n_validation: numbers of samples.
            max_tokens_per_turn, max_context_tokens: what these are where they are left at "auto": they depend on the
                model and on the memory.
        """
        batch_size = chosen(self.batch_size, max(1, min(8, n_train)))
        steps_per_epoch = -(-n_train // batch_size)
        enough = 1 if n_train >= 100 else max(1, min(50, round(100 / n_train)))
        wanted = enough if self.max_steps == "auto" else -(-self.max_steps // steps_per_epoch)
        n_epochs = chosen(self.n_epochs, wanted)
        algorithm = chosen(self.algorithm, "grpo")
        lora_rank = None if self.lora_rank == "full" else chosen(self.lora_rank, 16)
        multiplier = chosen(self.learning_rate_multiplier, 1.0)
        steps_in_data = n_epochs * steps_per_epoch
        max_steps = min(chosen(self.max_steps, steps_in_data), steps_in_data)
        step_rollouts = min(batch_size, n_train) * self.rollouts_per_sample
        eval_interval, eval_samples, eval_rows = self._evaluations(max_steps, max_steps * step_rollouts, n_validation)
        return ResolvedHyperparameters(
            batch_size=batch_size,
            n_epochs=n_epochs,
            learning_rate_multiplier=multiplier,
            learning_rate=multiplier * (FULL_LEARNING_RATE if lora_rank is None else LORA_LEARNING_RATE),
            compute_multiplier=chosen(self.compute_multiplier, 1.0),
            rollouts_per_sample=self.rollouts_per_sample,
            eval_interval=eval_interval,
            eval_samples=eval_samples,
            eval_rows=eval_rows,
            checkpoint_interval=chosen(self.checkpoint_interval, automatic_checkpoint_interval(lora_rank)),
            max_steps=max_steps,
            temperature=chosen(self.temperature, 1.0),
            top_p=chosen(self.top_p, 1.0),
            max_tokens_per_turn=chosen(self.max_tokens_per_turn, max_tokens_per_turn),
            max_episode_steps=self.episode_steps,
            max_context_tokens=chosen(self.max_context_tokens, max_context_tokens),
            lora_rank=lora_rank,
            lora_experts=self.adapts_experts,
            max_grad_norm=chosen(self.max_grad_norm, 1.0),
            algorithm=algorithm,
            minibatches=chosen(self.minibatches, min(MINIBATCHES, batch_size)),
            update_epochs=chosen(self.update_epochs, 1),
            clip_low=chosen(self.clip_low, CLIPS.get(algorithm, CLIP)[0]),
            clip_high=chosen(self.clip_high, CLIPS.get(algorithm, CLIP)[1]),
            advantage_by=chosen(self.advantage_by, "rollout"),
            advantage_std_floor=chosen(self.advantage_std_floor, 0.0),
            kl_weight=chosen(self.kl_weight, 0.0),
            clip_cov=chosen(self.clip_cov, 0.0),
            overlong=chosen(self.overlong, "fail"),
            length_penalty=chosen(self.length_penalty, 0.0),
            replay_rollouts=chosen(self.replay_rollouts, REPLAY_ROLLOUTS),
            borrow_answers=chosen(self.borrow_answers, False),
            replay_weight=chosen(self.replay_weight, REPLAY_WEIGHT),
            sample_by=chosen(self.sample_by, "epoch"),
            dynamic_sampling=chosen(self.dynamic_sampling, batch_size if algorithm == "dapo" else 0),
            decide_after=chosen(self.decide_after, min(DECIDED_AFTER, self.rollouts_per_sample)),
            max_off_policy_steps=chosen(self.max_off_policy_steps, 0),
        )

    def _evaluations(self, max_steps: int, rollouts: int, rows: int) -> tuple[int, int, int]:
        """Steps between validations, rollouts of each sample, and samples.

        Args:
            rollouts: of all training steps.
            rows: validation samples.
        """
        given = (self.eval_interval, self.eval_samples, self.eval_rows)
        if any(value != "auto" for value in given):
            interval = chosen(self.eval_interval, max(1, max_steps // EVALUATIONS))
            return interval, chosen(self.eval_samples, 1), min(rows, chosen(self.eval_rows, rows))
        budget = int(EVALUATION_SHARE * rollouts)
        # As many validations as can have enough rollouts each, the baseline being one more.
        times = next((n for n in range(EVALUATIONS, 1, -1) if budget >= (n + 1) * ENOUGH_ROLLOUTS), 1)
        each = max(LEAST_ROLLOUTS, budget // (times + 1))
        used = min(rows, each)
        return -(-max_steps // times), max(1, min(MOST_EVAL_SAMPLES, each // max(1, used))), used


@dataclass(frozen=True)
class ResolvedHyperparameters:
    """Hyperparameters without "auto". `lora_rank` None means that all weights are trained."""

    batch_size: int
    n_epochs: int
    learning_rate_multiplier: float
    learning_rate: float
    compute_multiplier: float
    rollouts_per_sample: int
    eval_interval: int
    eval_samples: int
    eval_rows: int
    checkpoint_interval: int
    max_steps: int
    temperature: float
    top_p: float
    max_tokens_per_turn: int
    max_episode_steps: int
    max_context_tokens: int
    lora_rank: int | None
    lora_experts: bool
    max_grad_norm: float
    algorithm: str
    minibatches: int
    update_epochs: int
    clip_low: float
    clip_high: float
    advantage_by: CreditBy
    advantage_std_floor: float
    kl_weight: float
    clip_cov: float
    overlong: Literal["fail", "mask"]
    length_penalty: float
    replay_rollouts: int
    borrow_answers: bool
    replay_weight: float
    sample_by: str
    dynamic_sampling: int
    decide_after: int
    max_off_policy_steps: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def automatic_checkpoint_interval(lora_rank: int | None) -> int:
    """Steps between checkpoints; `lora_rank` None means that all weights are trained."""
    return FULL_CHECKPOINT_INTERVAL if lora_rank is None else 1


def chosen(given: Any, automatic: Any) -> Any:
    """The value that is given, or what "auto" stands for."""
    return automatic if given == "auto" else given
