"""A tool server that can refuse: python -m benchmarks.limited_server LIMIT

Answers after `DELAY_S`; with a LIMIT above 0, what comes while so many requests are in flight is answered 429. Prints
its port, and counts: GET /counts gives {"executed": requests answered well, "distinct": by their call's id, "refused"}
since the last time it was asked.
"""

import asyncio
import sys
from collections import Counter

from aiohttp import web

# Short, so that 64 in flight can answer more than one core can ask: else the limit alone would decide the race.
DELAY_S = 0.005
REFUSAL = {"Retry-After": "0"}


class Server:
    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._in_flight = 0
        self._executed: Counter[str] = Counter()
        self._refused = 0

    async def call(self, request: web.Request) -> web.Response:
        self._in_flight += 1
        try:
            body = await request.json()
            if self._limit and self._in_flight > self._limit:
                self._refused += 1
                return web.Response(status=429, headers=REFUSAL)
            await asyncio.sleep(DELAY_S)
            self._executed[body["call_id"]] += 1
            return web.json_response({"type": "function_call_output", "call_id": body["call_id"], "output": "a result"})
        finally:
            self._in_flight -= 1

    async def counts(self, request: web.Request) -> web.Response:
        executed, refused = self._executed, self._refused
        self._executed, self._refused = Counter(), 0
        return web.json_response({"executed": executed.total(), "distinct": len(executed), "refused": refused})


async def main() -> None:
    server = Server(int(sys.argv[1]))
    app = web.Application()
    app.router.add_post("/tool", server.call)
    app.router.add_get("/counts", server.counts)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
