"""What pages load beside themselves: the style, our scripts and Vega's."""

import hashlib

from fastapi import HTTPException, Request
from fastapi.responses import Response

from agentrft.dashboard.assets import text_of, vega
from agentrft.errors import UserError

SCRIPTS = ("dashboard", "api", "actions", "new_job", "playground", "chat", "vega")
KINDS = {f"{script}.js": "text/javascript" for script in SCRIPTS} | {"dashboard.css": "text/css"}


def static_file(name: str, request: Request) -> Response:
    """The file, or that a browser has it already.

    Raises:
        HTTPException: 404, there is none of that name; 503, Vega's cannot be made here.
    """
    if name not in KINDS:
        raise HTTPException(404, "There is no such file.")
    try:
        content = vega() if name == "vega.js" else text_of(name)
    except UserError as error:
        raise HTTPException(503, str(error)) from error
    tag = f'"{hashlib.sha256(content.encode()).hexdigest()[:20]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=KINDS[name], headers=headers)
