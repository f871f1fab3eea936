"""Which share of a device's rates is reached, and what goes on beside its work: constants, each with where it is from.

They are the same for every model, batch and device of their kind. `EMBEDDED_…` and `LEARNER_…` are of this program,
`VLLM` and `PUBLISHED_LEARNER` of others'.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class EngineRates:
    """How an engine generates.

    Attributes:
        bandwidth_share: of the memory's rate, for what a decoding pass reads.
        decode_share, prefill_share: of the FLOP/s of large products, in passes of single tokens and of prompts.
        pass_s: of every pass, beside what it computes.
        layer_s: of every layer of every pass, likewise.
        sequence_s: of every sequence in a decoding pass: sampling, and what Python does for it.
        all_reduce_s: latency of one sum over the GPUs that share a layer.
    """

    bandwidth_share: float
    decode_share: float
    prefill_share: float
    pass_s: float
    layer_s: float
    sequence_s: float
    all_reduce_s: float = 20e-6


@dataclass(frozen=True)
class LearnerRates:
    """How a learner updates.

    Attributes:
        flops_share: of the FLOP/s of large products, over unique tokens, without what is computed twice.
        bandwidth_share: of the memory's rate, in the optimizer.
        link_share: of the links' rate, for gathering sharded weights and summing gradients.
    """

    flops_share: float
    bandwidth_share: float = 0.7
    link_share: float = 0.7


# docs/benchmarks.md, "Where the time goes": 64 sequences of a 135M model take 16 ms of products whose floor is 14, read
# 340 MB of keys and values in 10 ms at 45 GB/s, and spend 9 ms on the head, norms and calls and 2 on sampling. Results
# of tools are computed at 3,300 tokens/s of a rate that would do 4,500.
EMBEDDED_CPU = EngineRates(
    bandwidth_share=0.75, decode_share=0.85, prefill_share=0.74, pass_s=1e-3, layer_s=130e-6, sequence_s=30e-6
)
# Measured on an H200 by `make bench-gpu`: 64 sequences take 42 ms a pass in 28 layers and 57 in 36, of which the card
# works a tenth: 1.5 ms of starting kernels for each layer. CUDA graphs save most of that; nobody has measured how much,
# so that plans for this engine on GPUs are too slow rather than too fast.
EMBEDDED_GPU = EngineRates(
    bandwidth_share=0.6, decode_share=0.5, prefill_share=0.4, pass_s=2e-3, layer_s=1.5e-3, sequence_s=10e-6
)
# vLLM's authors: a step of an 8B model on an H100 is to less than half the GPU's own work, the rest scheduling and
# sampling in Python (https://blog.vllm.ai/2024/09/05/perf-update.html). That kernels of single tokens reach three
# quarters of the bandwidth, and products of hundreds of rows half of the FLOP/s, is usual for such cards.
VLLM = EngineRates(
    bandwidth_share=0.75, decode_share=0.6, prefill_share=0.5, pass_s=4e-3, layer_s=0.0, sequence_s=10e-6
)

# docs/benchmarks.md: 53 to 61 % of the rate of a large product that is measured in the same run.
LEARNER_CPU = LearnerRates(flops_share=0.55)
# `make bench-gpu` on an H200: 20 % of measured products for a 4B shape, which are 79 % of the data sheet's.
LEARNER_GPU = LearnerRates(flops_share=0.16)
# Of other programs, for their published runs: FSDP2 trains Llama 3.1 8B on H100s at 6,258 tokens/s each, 39 % of the
# data sheet (https://arxiv.org/abs/2410.06511, table 1); short rows of unequal lengths take a tenth of that away.
PUBLISHED_LEARNER = LearnerRates(flops_share=0.35)

# Publishing to an engine in the same process: merging, rounding and laying out read or write each weight so often.
PUBLISH_PASSES = 6
# To servers by files, one disk's rate of writing and of reading; and what a server takes to load an adapter.
DISK_BYTES_PER_S = 1e9
SERVER_LOAD_S = 1.0
# Other programs send weights over links: 3.0 to 5.5 s for 7B in verl's logs (`timing_s/update_weights`), which have
# the waking of sleeping engines in them.
PUBLISHED_SEND_S, PUBLISHED_SEND_BYTES_PER_S = 2.0, 8e9
# A server that sleeps during updates gives its memory back and takes it again in about so long.
SLEEP_S = 2.0

# Bytes that a process takes beside weights and caches: Python with PyTorch, transformers and the rest, measured on
# Linux without a GPU; and a CUDA context with its libraries and the allocator's rounding.
CPU_PROCESS_BYTES = 700_000_000
GPU_PROCESS_BYTES = 2_500_000_000
# Of a GPU's memory, what vLLM takes where nothing else is told (`--gpu-memory-utilization`), and what its passes need.
VLLM_MEMORY_SHARE = 0.9
VLLM_PASS_BYTES = 2_000_000_000
