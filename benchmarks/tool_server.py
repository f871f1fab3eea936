"""The quickstart's tool server with a delay before each answer: python -m benchmarks.tool_server [--delay 0.2]"""

import argparse
import asyncio
import sys
from typing import Any

import uvicorn

from benchmarks.agent import EXAMPLE, TOOL_PATH

sys.path.insert(0, str(EXAMPLE))
from server import app  # pyright: ignore[reportMissingImports]  # the example's modules find each other in their own folder


def delayed(delay_s: float) -> Any:
    """The example's app, slower."""

    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if delay_s and scope["type"] == "http" and scope["path"] == TOOL_PATH:
            await asyncio.sleep(delay_s)
        await app(scope, receive, send)

    return application


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds")
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    uvicorn.run(delayed(arguments.delay), host="127.0.0.1", port=arguments.port, access_log=False)


if __name__ == "__main__":
    main()
