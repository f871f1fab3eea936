"""`python -m agentrft.server.inference`: the server as a process that ends with its parent.

It listens on 127.0.0.1 only, prints `{"port": N}` when it does, and exits when its standard input is closed.
"""

import argparse
import asyncio
import json
import logging
import os
import socket
import sys
import threading

import uvicorn

from agentrft.server.inference.app import create_app
from agentrft.server.inference.host import HostLimits, ModelHost
from agentrft.server.vllm_places import VllmPlace

TOKEN_VARIABLE = "AGENTRFT_INFERENCE_TOKEN"
# As vLLM's own clients call it.
VLLM_KEY_VARIABLE = "VLLM_API_KEY"
ADDRESS = "127.0.0.1"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m agentrft.server.inference", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--max-models", type=int, default=4, help="models with weights of their own in memory at once")
    parser.add_argument("--max-adapters", type=int, default=32, help="adapters in memory on each of them")
    parser.add_argument("--vllm", action="append", default=[], help="MODEL=URL of the vLLM server that has it")
    parser.add_argument("--vllm-seeds", action="store_true", help="ask these with the seeds of requests")
    options = parser.parse_args()
    # Taken out, so that nothing that is started from here has it.
    token = os.environ.pop(TOKEN_VARIABLE, "")
    if not token:
        parser.error(f"set {TOKEN_VARIABLE}")
    for name in ("max_models", "max_adapters"):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')}: at least 1")
    try:
        servers = dict(map(VllmPlace.parse, options.vllm))
    except ValueError as error:
        parser.error(f"--vllm: {error}")
    key = os.environ.pop(VLLM_KEY_VARIABLE, "")
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    threading.Thread(target=_exit_with_parent, daemon=True, name="agentrft-parent").start()
    limits = HostLimits(max_models=options.max_models, max_adapters=options.max_adapters)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    host = ModelHost(limits, servers=servers, server_headers=headers, server_seeds=options.vllm_seeds)
    asyncio.run(_serve(options.port, host, token))


async def _serve(port: int, host: ModelHost, token: str) -> None:
    listening = socket.create_server((ADDRESS, port))
    app = create_app(host, token)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=5))
    print(json.dumps({"port": listening.getsockname()[1]}), flush=True)
    await server.serve(sockets=[listening])


def _exit_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    # At once: whoever the answers are for is gone, and a pass of the model would hold an orderly exit up.
    os._exit(0)


if __name__ == "__main__":
    main()
