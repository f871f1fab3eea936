"""Runs every check in this environment, and writes one line of JSON for each: `python -m tests.clients.run WORLD`.

WORLD is JSON with the fields of `World`; OPENAI_BASE_URL and OPENAI_API_KEY are what the SDK reads.
"""

import json
import sys
import time
import traceback

from tests.clients.checks import World, all_checks


def main() -> None:
    world = World(**json.loads(sys.argv[1]))
    for one in all_checks():
        if one.takes_long and not world.long:
            continue
        started, error = time.monotonic(), None
        try:
            one.run(world)
        except Exception:
            error = traceback.format_exc()
        print(json.dumps({"id": one.id, "error": error, "seconds": round(time.monotonic() - started, 2)}), flush=True)


if __name__ == "__main__":
    main()
