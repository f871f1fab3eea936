"""Turns through our engine for vLLM beside `vllm bench serve` alone: the same server, prompts and lengths.

    python -m benchmarks.vllm [--rounds 3] [--sequences 64] [--dtype float32]

Both ask the same server in turn, with nothing in its prefix cache. Ours sends token ids, and has ids and the
log-probability of each told; `vllm bench serve` sends text and has text told. The last line is a JSON
object with the ratio of sampled tokens a second.
"""

import argparse
import asyncio
import json
import os
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from agentrft.engine import Sampling
from agentrft.engine.vllm import Client, LocalHost, Server, ServerProcess, VllmEngine
from agentrft.engine.vllm.process import server_command, server_environment
from benchmarks.engine import built_in_model
from benchmarks.harness import ROOT, machine, median_of, report

PEER = ROOT / ".venv-peer-vllm"
BENCH = ROOT / "benchmarks" / "peers" / "vllm" / "bench_serve.py"
MODEL = "model"
DEADLINE_S = 3600.0


class Peer:
    """`vllm bench serve`, by its own code in its own environment."""

    def __init__(self, arguments: argparse.Namespace, model: Path, port: int) -> None:
        self._arguments, self._model, self._port = arguments, model, port
        self._sizes = [arguments.sequences, arguments.prompt_tokens, arguments.tokens]

    def prompts(self, seed: int) -> list[list[int]]:
        told = self._run("prompts", str(self._model), str(seed), *map(str, self._sizes))
        return json.loads(told.splitlines()[-1])

    def measure(self, seed: int) -> dict[str, Any]:
        count, prompt_tokens, tokens = map(str, self._sizes)
        with tempfile.TemporaryDirectory() as folder:
            options = ["--backend", "openai", "--base-url", f"http://127.0.0.1:{self._port}"]
            options += ["--model", MODEL, "--tokenizer", str(self._model), "--dataset-name", "random"]
            options += ["--random-input-len", prompt_tokens, "--random-output-len", tokens, "--num-prompts", count]
            options += ["--seed", str(seed), "--ignore-eos", "--temperature", "1.0", "--disable-tqdm"]
            options += ["--save-result", "--result-dir", folder, "--result-filename", "result.json"]
            self._run("serve", *options)
            found = json.loads(Path(folder, "result.json").read_text(encoding="utf-8"))
        assert found["completed"] == self._arguments.sequences, found
        return {"seconds": found["duration"], "tokens": found["total_output_tokens"]}

    def _run(self, *words: str) -> str:
        command = [str(PEER / "bin" / "python"), str(BENCH), *words]
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "LD_PRELOAD": str(PEER / "lib" / "libiomp5.so")}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode:
            raise SystemExit(f"vllm bench serve ended:\n{done.stderr[-3000:]}")
        return done.stdout


async def ours(engine: VllmEngine, prompts: list[list[int]], tokens: int) -> dict[str, Any]:
    """All prompts at once, each a rollout's first turn."""
    sampling = Sampling(1.0, 1.0, tokens, frozenset(), 0, DEADLINE_S)
    sessions = [await engine.open() for _ in prompts]
    started = time.perf_counter()
    pairs = zip(sessions, prompts, strict=True)
    turns = await asyncio.gather(*(session.generate(prompt, sampling) for session, prompt in pairs))
    seconds = time.perf_counter() - started
    for session in sessions:
        session.close()
    return {"seconds": seconds, "tokens": sum(len(turn.token_ids) for turn in turns)}


async def run(arguments: argparse.Namespace, model: Path) -> dict[str, list[dict[str, Any]]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))[: arguments.threads]))
    settings = ["env", f"LD_PRELOAD={PEER / 'lib' / 'libiomp5.so'}", f"VLLM_CPU_OMP_THREADS_BIND={cores}"]
    settings += ["VLLM_CPU_KVCACHE_SPACE=2", "KMP_BLOCKTIME=5", "HF_HUB_OFFLINE=1", "VLLM_SERVER_DEV_MODE=1"]
    words = server_command(
        [*settings, str(PEER / "bin" / "python"), "-m", "vllm.entrypoints.openai.api_server", "--max-num-seqs", "64"],
        model=str(model),
        served_as=MODEL,
        port=port,
        context_tokens=arguments.prompt_tokens + arguments.tokens + 8,
        lora_rank=None,
        dtype=arguments.dtype,
        sleeps=False,
    )
    log = Path(tempfile.mkdtemp(prefix="agentrft-bench-")) / "vllm.log"
    client = Client(f"http://127.0.0.1:{port}", {})
    process = ServerProcess(words, server_environment(lora=False, sleeps=False), log)
    server = Server(client, MODEL, host=LocalHost(process, f"http://127.0.0.1:{port}"))
    engine = VllmEngine([server], MODEL, max_sequences=arguments.sequences)
    peer = Peer(arguments, model, port)
    runs: dict[str, list[dict[str, Any]]] = {"agentrft": [], "vllm_bench": []}
    try:
        await server.keeper.start()
        # A round that nobody counts comes first.
        for seed in range(arguments.rounds + 1):
            prompts = await asyncio.to_thread(peer.prompts, seed)
            # Who goes first changes from round to round.
            for name in list(runs)[:: 1 if seed % 2 else -1]:
                await client.ask("/reset_prefix_cache", {})
                if name == "agentrft":
                    measured = await ours(engine, prompts, arguments.tokens)
                else:
                    measured = await asyncio.to_thread(peer.measure, seed)
                assert measured["tokens"] == arguments.sequences * arguments.tokens, measured
                if seed:
                    runs[name].append(measured)
                print(f"round {seed}  {name:<12} {measured['seconds']:.2f} s", flush=True)
    finally:
        await engine.close()
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sequences", type=int, default=64)
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--dtype", default="bfloat16", help="float32 on processors without bfloat16")
    arguments = parser.parse_args()
    runs = asyncio.run(run(arguments, built_in_model()))
    tokens = arguments.sequences * arguments.tokens
    rates = {name: tokens / median_of(of_side, "seconds") for name, of_side in runs.items()}
    pairs = [b["seconds"] / a["seconds"] for a, b in zip(runs["agentrft"], runs["vllm_bench"], strict=True)]
    summary = {
        "ratio": round(rates["agentrft"] / rates["vllm_bench"], 3),
        "ratio_by_round": [round(ratio, 3) for ratio in pairs],
        "tokens_per_s": round(rates["agentrft"], 1),
        "vllm_bench_tokens_per_s": round(rates["vllm_bench"], 1),
    }
    report("vllm", {"machine": machine(arguments.threads), "config": vars(arguments), "runs": runs, "summary": summary})


if __name__ == "__main__":
    main()
