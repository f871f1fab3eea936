"""An MCP server on stdin and stdout, by hand, which does what `SCRIPT` says: `{"tools", "pages", "results"}`.

`pages` is a list of `[tools, nextCursor]`, the last of which is given for ever; `results` are those of `tools/call`.
"""

import json
import os
import sys

script = json.loads(os.environ["SCRIPT"])
pages = script.get("pages") or [[script.get("tools", []), None]]
asked = 0
for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue
    answer: dict[str, object] = {}
    match message["method"]:
        case "initialize":
            version = message["params"]["protocolVersion"]
            info = {"name": "odd", "version": "1"}
            answer = {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}
        case "tools/list":
            tools, cursor = pages[min(asked, len(pages) - 1)]
            answer = {"tools": tools} | ({} if cursor is None else {"nextCursor": cursor})
            asked += 1
        case "tools/call":
            answer = script["results"][message["params"]["name"]]
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": answer}), flush=True)
