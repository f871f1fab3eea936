"""JSON Schemas of tools' arguments and of answers: read once, with their drafts honoured, and checked in bounded time.

`reading.py` makes a schema that values are held against; `patterns.py` and `work.py` bound what that takes, because
both the schema and the value may come from somebody else.
"""

from agentrft.spec.json_schema.arguments import schema_fault
from agentrft.spec.json_schema.reading import JsonSchema, SchemaFault, read_schema

__all__ = ["JsonSchema", "SchemaFault", "read_schema", "schema_fault"]
