"""Steps that others have published, with all that a plan needs of them, and how long each took.

They were chosen, and the constants of `planning.efficiency` set, before the first of them was computed; none was left
out after. `main` marks the three that the plan is held to.
"""

from dataclasses import dataclass

NEMO_V05 = (
    "https://docs.nvidia.com/nemo/rl/0.5.0/about/performance-summary.html (H100 BF16, GRPO on OpenMathInstruct-2)"
)
NEMO_V04_DRAFT = "https://github.com/NVIDIA-NeMo/RL, docs/performance-summary.md before release 0.4"


@dataclass(frozen=True)
class PublicRun:
    """One published step.

    Attributes:
        name: of it in tables.
        source: where it stands.
        model: a name of `planning.known_models`.
        gpu: of `models.gpus`.
        engine_gpus, learner_gpus: how many each has; with `shared` the same ones.
        tensor_parallel: GPUs of an engine.
        groups, rollouts_per_group: of a step.
        prompt_tokens: mean.
        sampled_tokens: mean of a rollout.
        most_sampled: the limit.
        minibatches: optimizer steps.
        extra_forwards: passes without gradient: log-probabilities, a reference.
        runs_ahead: whether a step's rollouts are sampled during the update before.
        step_s: what was measured.
        main: one of the three that the plan is held to.
        note: what had to be read from elsewhere than the table.
    """

    name: str
    source: str
    model: str
    gpu: str
    engine_gpus: int
    learner_gpus: int
    tensor_parallel: int
    groups: int
    rollouts_per_group: int
    prompt_tokens: float
    sampled_tokens: float
    most_sampled: int
    minibatches: int
    extra_forwards: int
    runs_ahead: bool
    step_s: float
    main: bool = False
    note: str = ""

    @property
    def shared(self) -> bool:
        """Whether engines and learner are on the same GPUs."""
        return not self.runs_ahead


# Prompts of the NeMo rows: tokens / s / GPU x GPUs x seconds / rollouts, less the mean of what was generated. Groups of
# 32 are of the recipes that the tables link; that of the 70B model is not at hand, and 16 are assumed.
RUNS = (
    PublicRun(
        "NeMo RL 0.5, Llama 3.1 8B, 16 H100",
        NEMO_V05,
        "meta-llama/Llama-3.1-8B-Instruct",
        "h100",
        engine_gpus=16,
        learner_gpus=16,
        tensor_parallel=1,
        groups=64,
        rollouts_per_group=32,
        prompt_tokens=127,
        sampled_tokens=1019,
        most_sampled=3969,
        minibatches=4,
        extra_forwards=1,
        runs_ahead=False,
        step_s=92.8,
        main=True,
    ),
    PublicRun(
        "NeMo RL 0.5, Qwen3 32B, 32 H100",
        NEMO_V05,
        "Qwen/Qwen3-32B",
        "h100",
        engine_gpus=32,
        learner_gpus=32,
        tensor_parallel=4,
        groups=64,
        rollouts_per_group=32,
        prompt_tokens=104,
        sampled_tokens=3251,
        most_sampled=3992,
        minibatches=4,
        extra_forwards=1,
        runs_ahead=False,
        step_s=376.0,
        main=True,
        note="release 0.7 takes 323 s",
    ),
    PublicRun(
        "verl, Qwen2.5 7B, 8 H100",
        "'veRL Benchmark Report: GRPO + Qwen2.5-7B on GSM8K', a published report with its log: run 6icl7pbz of "
        "verl_grpo_example_gsm8k, verl's example of 1,024 prompts, 5 rollouts each and tensor parallelism of 2",
        "Qwen/Qwen2.5-7B-Instruct",
        "h100",
        engine_gpus=8,
        learner_gpus=8,
        tensor_parallel=2,
        groups=1024,
        rollouts_per_group=5,
        prompt_tokens=93,
        sampled_tokens=232,
        most_sampled=1024,
        minibatches=4,
        extra_forwards=2,
        runs_ahead=False,
        step_s=80.3,
        main=True,
        note="114.8 s in all, of which testing took 16.6 and a checkpoint 17.9; all 105 steps took 83.1 s each; the "
        "log says 109 GB of reserved memory a GPU, so that the cards have more than an H100's 80",
    ),
    PublicRun(
        "NeMo RL 0.5, Llama 3.1 8B, 8 + 8 H100, one step ahead",
        NEMO_V05,
        "meta-llama/Llama-3.1-8B-Instruct",
        "h100",
        engine_gpus=8,
        learner_gpus=8,
        tensor_parallel=1,
        groups=64,
        rollouts_per_group=32,
        prompt_tokens=131,
        sampled_tokens=1123,
        most_sampled=3965,
        minibatches=4,
        extra_forwards=1,
        runs_ahead=True,
        step_s=64.8,
        note="halves are the recipe's",
    ),
    PublicRun(
        "NeMo RL 0.5, Qwen3 32B, 32 + 32 H100, one step ahead",
        NEMO_V05,
        "Qwen/Qwen3-32B",
        "h100",
        engine_gpus=32,
        learner_gpus=32,
        tensor_parallel=4,
        groups=64,
        rollouts_per_group=32,
        prompt_tokens=110,
        sampled_tokens=3252,
        most_sampled=3986,
        minibatches=4,
        extra_forwards=1,
        runs_ahead=True,
        step_s=200.0,
        note="release 0.7 takes 161 s",
    ),
    PublicRun(
        "NeMo RL before 0.4, Llama 3.1 70B, 32 H100",
        NEMO_V04_DRAFT,
        "meta-llama/Llama-3.1-70B-Instruct",
        "h100",
        engine_gpus=32,
        learner_gpus=32,
        tensor_parallel=8,
        groups=32,
        rollouts_per_group=16,
        prompt_tokens=146,
        sampled_tokens=675,
        most_sampled=3950,
        minibatches=1,
        extra_forwards=1,
        runs_ahead=False,
        step_s=106.0,
        note="a draft of the table",
    ),
)
