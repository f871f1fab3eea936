"""The agent's tool: looks a product up in a small catalogue. Put your own tool in its place.

agentrft sends POST {"call_id": ..., "arguments": "<JSON text>", "item": {...}, ...} and reads `output` of the answer.
A 4xx answer is shown to the agent as the tool's result; a 5xx answer is retried.
"""

import argparse
import json

import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from pydantic import BaseModel

# name: (price, pieces in stock)
CATALOGUE = {
    "claw hammer": (52, 160),
    "sledge hammer": (30, 289),
    "rubber hammer": (61, 352),
    "tack hammer": (94, 95),
    "hand saw": (17, 55),
    "hack saw": (20, 300),
    "coping saw": (79, 295),
    "pruning saw": (23, 330),
    "desk lamp": (57, 99),
    "floor lamp": (85, 193),
    "garden lamp": (18, 283),
    "pocket lamp": (75, 367),
    "paint brush": (38, 35),
    "wire brush": (15, 291),
    "bottle brush": (22, 33),
    "shoe brush": (66, 319),
    "step ladder": (64, 108),
    "roof ladder": (19, 257),
    "rope ladder": (41, 351),
    "folding ladder": (84, 275),
    "tin bucket": (65, 221),
    "mop bucket": (88, 163),
    "plastic bucket": (26, 241),
    "coal bucket": (39, 302),
    "bread knife": (77, 235),
    "carving knife": (47, 188),
    "putty knife": (48, 156),
    "oyster knife": (36, 130),
    "rocking chair": (14, 360),
    "camping chair": (25, 127),
    "office chair": (13, 44),
    "kitchen chair": (46, 297),
    "leather glove": (78, 271),
    "oven glove": (81, 256),
    "welding glove": (29, 178),
    "winter glove": (37, 376),
    "wall clock": (93, 232),
    "alarm clock": (45, 150),
    "cuckoo clock": (74, 314),
    "station clock": (73, 40),
}


class FunctionCall(BaseModel):
    """The fields of a call that this tool uses."""

    call_id: str
    arguments: str


app = FastAPI(title="Product lookup")


def look_up(product: str) -> str:
    """One line per product that shares the most words with `product`: a full name gives one line, `hammer` four."""
    words = set(product.lower().split())
    shared = {name: len(words & set(name.split())) for name in CATALOGUE}
    most = max(shared.values())
    if most == 0:
        return "no such product"
    found = [(name, *CATALOGUE[name]) for name in CATALOGUE if shared[name] == most]
    return "\n".join(f"{name}: price {price}, stock {stock}" for name, price, stock in found)


@app.get("/healthz")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/tools/lookup")
async def lookup(call: FunctionCall) -> JSONResponse:
    try:
        arguments = json.loads(call.arguments)
    except json.JSONDecodeError:
        return JSONResponse({"error": "arguments must be JSON"}, status_code=400)
    product = arguments.get("product") if isinstance(arguments, dict) else None
    if not isinstance(product, str):
        return JSONResponse({"error": "product must be a string"}, status_code=400)
    return JSONResponse({"type": "function_call_output", "call_id": call.call_id, "output": look_up(product)})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Serve the tool on 127.0.0.1.")
    parser.add_argument("--port", type=int, default=8800, help="0 takes a free port; the log names it")
    uvicorn.run(app, host="127.0.0.1", port=parser.parse_args().port, access_log=False)
