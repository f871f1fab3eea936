"""A program that answers as a vLLM server does, as fast as it starts: for what watches over processes.

It takes vLLM's options, and writes what it was started with to `--record`. What it samples is always the same.
"""

import argparse
import asyncio
import json
import os
import sys
from pathlib import Path

import aiohttp.web

TOKENS = [3, 1, 2]


class Program:
    def __init__(self, arguments: argparse.Namespace) -> None:
        self.model = arguments.served_model_name
        self.adapters: set[str] = set()
        self.computed = 0
        # Named by a file, so that a test can have a running one stop getting on.
        self.stuck = Path(f"{arguments.record}.stuck")

    async def health(self, _: aiohttp.web.Request) -> aiohttp.web.Response:
        return aiohttp.web.Response()

    async def metrics(self, _: aiohttp.web.Request) -> aiohttp.web.Response:
        counts = {"prompt": 9, "generation": self.computed}
        lines = [f'vllm:{name}_tokens_total{{engine="0"}} {count}.0' for name, count in counts.items()]
        return aiohttp.web.Response(text="\n".join(lines))

    async def models(self, _: aiohttp.web.Request) -> aiohttp.web.Response:
        return aiohttp.web.json_response({"data": [{"id": self.model, "max_model_len": 4096}]})

    async def load(self, request: aiohttp.web.Request) -> aiohttp.web.Response:
        self.adapters.add((await request.json())["lora_name"])
        return aiohttp.web.Response(text="Success")

    async def unload(self, request: aiohttp.web.Request) -> aiohttp.web.Response:
        self.adapters.discard((await request.json())["lora_name"])
        return aiohttp.web.Response(text="Success")

    async def completions(self, request: aiohttp.web.Request) -> aiohttp.web.Response:
        body = await request.json()
        if body["model"] not in (self.model, *self.adapters):
            return aiohttp.web.json_response({"error": {"message": "does not exist"}}, status=404)
        for _ in range(body["max_tokens"]):
            await asyncio.sleep(0.02)
            while self.stuck.exists():
                await asyncio.sleep(0.05)
            self.computed += 1
        spread = 1.0 / max(body["temperature"], 0.1)
        top = [{"token_id:1": -0.5, "token_id:2": -0.5 - spread}]
        tokens = (TOKENS * body["max_tokens"])[: body["max_tokens"]]
        choice = {"token_ids": tokens, "logprobs": {"token_logprobs": [-0.5] * len(tokens), "top_logprobs": top}}
        return aiohttp.web.json_response({"model": body["model"], "choices": [choice]})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("verb")
    parser.add_argument("model")
    parser.add_argument("--record", required=True)
    parser.add_argument("--served-model-name")
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--dies-at-start", type=int, default=0)
    arguments, _ = parser.parse_known_args()
    with open(arguments.record, "a", encoding="utf-8") as record:
        flags = {name: value for name, value in os.environ.items() if name.startswith("VLLM_")}
        record.write(json.dumps({"arguments": sys.argv[1:], "environment": flags, "pid": os.getpid()}) + "\n")
    starts = len(Path(arguments.record).read_text(encoding="utf-8").splitlines())
    if 1 < starts <= 1 + arguments.dies_at_start:
        sys.exit("out of memory while it loads")
    program = Program(arguments)
    app = aiohttp.web.Application()
    app.router.add_get("/health", program.health)
    app.router.add_get("/metrics", program.metrics)
    app.router.add_get("/v1/models", program.models)
    app.router.add_post("/v1/load_lora_adapter", program.load)
    app.router.add_post("/v1/unload_lora_adapter", program.unload)
    app.router.add_post("/v1/completions", program.completions)
    aiohttp.web.run_app(app, host=arguments.host, port=arguments.port, print=None, reuse_address=True)


if __name__ == "__main__":
    main()
