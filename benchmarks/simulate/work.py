"""What is simulated: how long rollouts are, how fast GPUs are, how tools behave, and how often machines are lost."""

import math
import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Work:
    """The rollouts of a job: several turns of thought, each with one call but the last.

    Attributes:
        prompt_tokens: of a row, its tools included.
        result_tokens: of what a tool answers.
        turn_tokens: of a turn, the median of a log-normal distribution.
        turn_spread: standard deviation of its logarithm.
        most_turn_tokens: a longer turn is cut off here.
        least_calls: before a rollout may end.
        ends: probability that a turn after those is the last.
        most_turns: of a rollout.
        each: rollouts of a sample.
    """

    prompt_tokens: int = 1500
    result_tokens: int = 400
    turn_tokens: float = 600.0
    turn_spread: float = 0.8
    most_turn_tokens: int = 4096
    least_calls: int = 2
    ends: float = 0.3
    most_turns: int = 12
    each: int = 8

    @property
    def mean_calls(self) -> float:
        return self.least_calls + (1 - self.ends) / self.ends

    @property
    def mean_turn_tokens(self) -> float:
        """But for the cut, which takes off less than a hundredth."""
        return self.turn_tokens * math.exp(self.turn_spread**2 / 2)

    @property
    def mean_tokens(self) -> float:
        """Sampled in a rollout."""
        return (self.mean_calls + 1) * self.mean_turn_tokens

    def turn(self, source: random.Random) -> int:
        """Tokens of one turn."""
        drawn = source.lognormvariate(math.log(self.turn_tokens), self.turn_spread)
        return max(8, min(self.most_turn_tokens, round(drawn)))

    def is_last(self, calls: int, source: random.Random) -> bool:
        """Whether the turn after so many calls is an answer."""
        return calls >= self.least_calls and source.random() < self.ends


@dataclass(frozen=True)
class Gpu:
    """An engine with a copy of the weights, of the speed that a model of 32 billion weights in bfloat16 has on an H200.

    That is what its memory's bandwidth allows: 64 GB of weights a pass, and 262 kB of keys and values for each of some
    6,000 tokens of context, of which 40 sequences fit beside the weights; both at three quarters of 4.8 TB/s.

    Attributes:
        places: sequences that it decodes at once, at most.
        pass_s: seconds of a decoding pass for the weights alone.
        sequence_s: seconds that each sequence adds to a pass.
        prefill_s: seconds for a token of a prompt or a tool's result.
        lost_an_hour: probability that its machine is lost within an hour.
        away_s: seconds until another machine answers in its place, with the base model alone.
    """

    places: int = 40
    pass_s: float = 0.018
    sequence_s: float = 0.00044
    prefill_s: float = 0.00013
    lost_an_hour: float = 0.05
    away_s: float = 300.0

    @property
    def token_s(self) -> float:
        """Seconds of the GPU for a sampled token, when all places are taken."""
        return (self.pass_s + self.places * self.sequence_s) / self.places

    def gpu_s(self, sampled: float, prefilled: float) -> float:
        """Seconds that tokens take of a GPU that is never idle."""
        return sampled * self.token_s + prefilled * self.prefill_s

    def time_to_loss_s(self, source: random.Random) -> float:
        """Until its machine is lost; infinite where none ever is."""
        return source.expovariate(-math.log1p(-self.lost_an_hour) / 3600) if self.lost_an_hour else math.inf


@dataclass(frozen=True)
class ToolBehaviour:
    """The user's endpoint: log-normal latencies, of which some are far longer, errors, and a bound on its calls.

    Attributes:
        median_s, spread: of the log-normal distribution.
        slow_share, slow_s, slow_shape: so many calls take `slow_s` and more, by a Pareto distribution.
        broken_share: calls that it answers with HTTP 500.
        calls_per_gpu: that it takes at once for each GPU of the job; to others it says 429.
    """

    median_s: float = 1.0
    spread: float = 1.0
    slow_share: float = 0.01
    slow_s: float = 10.0
    slow_shape: float = 1.1
    broken_share: float = 0.002
    calls_per_gpu: int = 24

    def latency_s(self, source: random.Random) -> float:
        if source.random() < self.slow_share:
            return self.slow_s * source.paretovariate(self.slow_shape)
        return source.lognormvariate(math.log(self.median_s), self.spread)


@dataclass(frozen=True)
class Bucket:
    """Where engines fetch new weights from, and rollouts go.

    Attributes:
        bytes_per_s: of all readers together.
        machine_bytes_per_s: of one reader.
        adapter_bytes: of one policy version: rank 16 on all products of a model of 32 billion weights, in bfloat16.
    """

    bytes_per_s: float = 10e9
    machine_bytes_per_s: float = 1e9
    adapter_bytes: float = 270e6
