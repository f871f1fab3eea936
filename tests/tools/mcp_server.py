"""A server made with the official SDK. `python mcp_server.py [PORT]`: on stdin and stdout, or at PORT on loopback."""

import os
import sys
from collections import defaultdict
from typing import Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError

server = MCPServer("catalogue")
remembered: dict[str, list[str]] = defaultdict(list)


@server.tool()
def search(query: str, limit: int = 2) -> str:
    """Search the catalogue."""
    if limit < 1:
        raise ToolError("limit must be at least 1")
    return " ".join(f"{query}-{n}" for n in range(limit))


@server.tool()
async def remember(word: str, ctx: Context[Any, Any]) -> str:
    """Everything that this session was told so far."""
    told = remembered[(ctx.headers or {}).get("mcp-session-id", "stdio")]
    told.append(word)
    return " ".join(told)


@server.tool()
def secret() -> str:
    return f"the key is {os.environ.get('CATALOGUE_KEY', 'unknown')}"


@server.tool()
def big() -> str:
    return "x" * 2_000_000


@server.tool()
def die() -> str:
    os._exit(3)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
    else:
        print("catalogue ready", file=sys.stderr, flush=True)
        server.run("stdio")
