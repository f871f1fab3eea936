"""How long engines take for a step's rollouts: the roofline of a pass, summed over rollouts of unequal lengths.

A decoding pass reads all weights once, and the keys and values of each sequence; it multiplies each weight with each
sequence. Whichever of the first and the last takes longer is what products take, and attention comes on top.
"""

import math
from dataclasses import asdict, dataclass

from agentrft.planning.efficiency import EngineRates
from agentrft.planning.hardware import Device
from agentrft.planning.model import PlannedModel
from agentrft.planning.workload import Workload


@dataclass(frozen=True)
class Engines:
    """What generates.

    Attributes:
        count: engines, each with a copy of the weights.
        per_engine: devices that share one.
        sequences: at once in one engine, at most.
        rates: of its kind.
    """

    count: int
    per_engine: int
    sequences: int
    rates: EngineRates


@dataclass(frozen=True)
class GenerationTimes:
    """Of a step's rollouts, in seconds.

    Attributes:
        prefill, decode: of the engines, which work at the same time.
        tools, graders: of these, what is waited for while no engine is needed: after the longest rollout's calls, and
            of its grade.
        waves: how often the engines are filled with rollouts.
    """

    prefill: float
    decode: float
    tools: float
    graders: float
    waves: float

    @property
    def engine(self) -> float:
        """While engines work."""
        return self.prefill + self.decode

    @property
    def total(self) -> float:
        return self.engine + self.tools + self.graders

    def as_dict(self) -> dict[str, float]:
        return {**asdict(self), "engine": self.engine, "total": self.total}


def generation_times(model: PlannedModel, work: Workload, engines: Engines, device: Device) -> GenerationTimes:
    """Of all rollouts of a step.

    With more rollouts than fit at once, sequences that end make room for others until the last ones begin; those then
    end one after the other, in passes of ever fewer.
    """
    each = work.rollouts / engines.count
    at_once = max(1.0, min(each, float(engines.sequences), work.at_once / engines.count))
    waves = max(1.0, each / at_once)
    slices = work.survivors()
    tokens = work.sampled_per_rollout
    context = work.prompt_tokens + work.own_per_rollout / 2
    share = _generating_share(model, work, engines, device, at_once, context)
    full = _pass_s(model, engines, device, at_once * share, context)
    # All but the last wave, in passes that are full.
    decode = (waves - 1) * tokens * full
    done = 0.0
    for count, left in slices:
        part = (done + count / 2) / max(1.0, tokens)
        where = work.prompt_tokens + min(work.own_per_rollout, part * work.own_per_rollout)
        decode += count * _pass_s(model, engines, device, max(1.0, at_once * share * left), where)
        done += count
    prefill = work.prefill_tokens / engines.count * _token_s(model, engines, device, context)
    # Of the waves before the last, engines work on others' rollouts while some wait.
    idle = max(0.0, (waves - 1) * (1 - share) * work.wait_per_rollout)
    return GenerationTimes(prefill, decode, work.wait_per_rollout + idle, work.grade_s, waves)


def _generating_share(
    model: PlannedModel, work: Workload, engines: Engines, device: Device, at_once: float, context: float
) -> float:
    """Of rollouts under way, those that generate and do not wait for tools: where both hold of each other."""
    share = 1.0
    for _ in range(20):
        generating = work.sampled_per_rollout * _pass_s(model, engines, device, max(1.0, at_once * share), context)
        share = generating / max(1e-9, generating + work.wait_per_rollout)
    return max(share, 1 / at_once)


def _pass_s(model: PlannedModel, engines: Engines, device: Device, sequences: float, context: float) -> float:
    """One decoding pass of so many sequences at that length."""
    rates, ways, costs = engines.rates, engines.per_engine, model.costs
    bandwidth = device.bandwidth * rates.bandwidth_share * ways
    weights_s = (costs.weights + model.head_weights) * model.itemsize / bandwidth
    products_s = 2 * sequences * (costs.weights + model.head_weights) / (device.flops * rates.decode_share * ways)
    attention_s = sequences * context * model.kv_bytes / bandwidth
    beside_s = rates.pass_s + rates.layer_s * costs.layers + rates.sequence_s * sequences
    sums_s = _sums_s(model, engines, device, sequences) if ways > 1 else 0.0
    return max(weights_s, products_s) + attention_s + beside_s + sums_s


def _sums_s(model: PlannedModel, engines: Engines, device: Device, sequences: float) -> float:
    """Two sums over the devices for each layer."""
    ways = engines.per_engine
    moved = 2 * (ways - 1) / ways * sequences * model.costs.width * model.itemsize
    return 2 * model.costs.layers * (engines.rates.all_reduce_s * math.log2(ways) / 3 + moved / device.link)


def _token_s(model: PlannedModel, engines: Engines, device: Device, context: float) -> float:
    """One token of a prompt or of a tool's answer; the head is not computed there."""
    flops = 2 * model.costs.weights + 2 * model.costs.pair_products * context / 2
    return flops / (device.flops * engines.rates.prefill_share * engines.per_engine)
