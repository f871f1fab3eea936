"""Query parameters that several lists have. `check_limit` refuses, in the API's words, what is out of their range."""

from typing import Annotated, Literal

from fastapi import Query

Limit = Annotated[int, Query(json_schema_extra={"minimum": 1, "maximum": 100})]
FilesLimit = Annotated[int, Query(json_schema_extra={"minimum": 1, "maximum": 10000})]
Order = Literal["asc", "desc"]
