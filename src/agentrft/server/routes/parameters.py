"""Query parameters that several lists have, and where a request found the server.

`check_limit` refuses limits, in the API's words, that are out of their range.
"""

from typing import Annotated, Literal

from fastapi import Depends, Query, Request


def base_url(request: Request) -> str:
    """The server's address as the client wrote it, ending in a slash."""
    return str(request.base_url)


Limit = Annotated[int, Query(json_schema_extra={"minimum": 1, "maximum": 100})]
FilesLimit = Annotated[int, Query(json_schema_extra={"minimum": 1, "maximum": 10000})]
Order = Literal["asc", "desc"]
BaseUrl = Annotated[str, Depends(base_url)]
