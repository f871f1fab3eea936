"""The tool `search` as an HTTP endpoint: POST a function call, get its output.

Run `python server.py --port 8765`, or `python -m uvicorn server:app --port 8765` in this folder.
"""

import argparse
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from search_index import SearchIndex, format_hits, load_index


class FunctionCall(BaseModel):
    """What the agent's harness sends; `arguments` is JSON text, as the model wrote it."""

    call_id: str
    arguments: str


@asynccontextmanager
async def build_index(app: FastAPI) -> AsyncIterator[None]:
    """Build the index before the first request is answered; about 3 s."""
    app.state.index = load_index()
    yield


app = FastAPI(title="ICD-10-CM search", lifespan=build_index)


@app.get("/healthz")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


# Not a thread per call: a search takes under 1 ms, less than handing it over would.
@app.post("/tools/search")
async def search(call: FunctionCall, request: Request) -> JSONResponse:
    """The best four codes for the query, as text. Arguments that cannot be used are a 400, which the agent reads."""
    index: SearchIndex = request.app.state.index
    try:
        arguments = json.loads(call.arguments)
    except json.JSONDecodeError:
        return JSONResponse({"error": "arguments must be JSON"}, status_code=400)
    query = arguments.get("query") if isinstance(arguments, dict) else None
    if not isinstance(query, str) or not query.strip():
        return JSONResponse({"error": "query must be a non-empty string"}, status_code=400)
    output = format_hits(index.search(query))
    return JSONResponse({"type": "function_call_output", "call_id": call.call_id, "output": output})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8765, help="0 takes a free port; the log names it")
    uvicorn.run(app, host="127.0.0.1", port=parser.parse_args().port, access_log=False)


if __name__ == "__main__":
    main()
