"""A vLLM server and a tool that answer at once, for what speaking to them costs: python -m benchmarks.simulate.far_side

Its standard input is one line of JSON, `{"model", "turns", "result_characters"}`: the token ids of a rollout's turns,
which it answers over and over, and the length of the tool's answer. It prints its port, and ends with its standard
input.
"""

import asyncio
import json
import random
import sys
from itertools import cycle
from typing import Any

from aiohttp import web

OUTPUT = "A line of what a tool found, with some numbers in it: 12.5, 7, 1990. "
COUNTERS = '# TYPE vllm:generation_tokens_total counter\nvllm:generation_tokens_total{model_name="m"} 1.0\n'


def answers(model: str, turns: list[list[int]]) -> list[str]:
    """As vLLM writes them, with an id and a log-probability for each token."""
    source = random.Random(0)

    def answer(ids: list[int]) -> dict[str, Any]:
        tokens = [f"token_id:{token}" for token in ids]
        logprobs = {
            "text_offset": list(range(0, 4 * len(ids), 4)),
            "token_logprobs": [-source.expovariate(2.0) for _ in ids],
            "tokens": tokens,
            "top_logprobs": [{}] * len(ids),
        }
        choice = {"index": 0, "text": "word " * len(ids), "logprobs": logprobs, "token_ids": ids}
        return {"id": "cmpl-1", "object": "text_completion", "model": model, "choices": [choice]}

    return [json.dumps(answer(ids)) for ids in turns]


def application(model: str, turns: list[list[int]], result_characters: int) -> web.Application:
    texts = cycle(answers(model, turns))
    output = (OUTPUT * (result_characters // len(OUTPUT) + 1))[:result_characters]

    async def complete(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(text=next(texts), content_type="application/json")

    async def call(request: web.Request) -> web.Response:
        await request.read()
        return web.json_response({"output": output})

    async def health(_: web.Request) -> web.Response:
        return web.Response()

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text=COUNTERS)

    app = web.Application(client_max_size=1 << 26)
    app.router.add_post("/v1/completions", complete)
    app.router.add_post("/tool", call)
    app.router.add_get("/health", health)
    app.router.add_get("/metrics", metrics)
    return app


async def main() -> None:
    told = json.loads(sys.stdin.readline())
    runner = web.AppRunner(application(told["model"], told["turns"], told["result_characters"]), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    # Until whoever began it closes its standard input.
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main())
