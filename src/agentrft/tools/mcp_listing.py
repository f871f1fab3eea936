"""The tools that an MCP server lists, and which of them a model can be given."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentrft.errors import UserError
from agentrft.spec.tools import TOOL_NAME
from agentrft.wire import clean_text

if TYPE_CHECKING:
    from mcp import Client

MAX_PAGES = 200
MAX_LISTED = 10_000
# Without `allowed_tools`: the model reads every one of them in every prompt.
MAX_TOOLS = 128
MAX_DESCRIPTION_CHARACTERS = 20_000
MAX_NAMES_SHOWN = 20
REMEDY = "Name the tools that the agent needs under `allowed_tools`."


@dataclass(frozen=True)
class ToolDefinition:
    """A tool as its server describes it; `parameters` is the JSON Schema of its arguments."""

    name: str
    description: str
    parameters: dict[str, Any]


async def listed_tools(client: "Client") -> list[ToolDefinition] | str:
    """All pages of the server's list, or why it does not end."""
    tools: list[ToolDefinition] = []
    cursor: str | None = None
    asked: set[str] = set()
    for _ in range(MAX_PAGES):
        page = await client.list_tools(cursor=cursor)
        for tool in page.tools:
            tools.append(ToolDefinition(tool.name, clean_text(tool.description or ""), dict(tool.input_schema)))
        if len(tools) > MAX_LISTED:
            return f"it lists more than {MAX_LISTED} tools"
        cursor = page.next_cursor
        # Some servers end their list with an empty cursor.
        if not cursor:
            return tools
        if cursor in asked:
            return f"its list of tools does not end: nextCursor {cursor[:80]!r} came twice"
        asked.add(cursor)
    return f"its list of tools has more than {MAX_PAGES} pages"


def usable_tools(found: Sequence[ToolDefinition], allowed: Sequence[str] | None, label: str) -> list[ToolDefinition]:
    """Those that are allowed, each once.

    Args:
        allowed: names; None for all.
        label: what to call the server in messages.

    Raises:
        UserError: one is missing, has a name that no model can call, is there twice with different definitions, or
            says more than a prompt holds; or there are too many.
    """
    names = list(dict.fromkeys(definition.name for definition in found))
    missing = sorted(set(allowed or ()) - set(names))
    if missing:
        raise UserError(f"{label}: allowed_tools: it has no {missing}.", f"It has: {_shown(names)}.")
    by_name: dict[str, ToolDefinition] = {}
    for definition in found:
        if allowed is not None and definition.name not in allowed:
            continue
        if by_name.setdefault(definition.name, definition) != definition:
            raise UserError(f"{label}: it lists the tool {definition.name!r} twice, differently.", "Mend the server.")
    wrong = [name for name in by_name if not TOOL_NAME.fullmatch(name)]
    if wrong:
        raise UserError(
            f"{label}: no model can call {_shown(map(repr, wrong))}: a name is 1 to 64 letters, digits, underscores or "
            "dashes.",
            REMEDY,
        )
    if allowed is None and len(by_name) > MAX_TOOLS:
        raise UserError(f"{label}: it has {len(by_name)} tools, which is more than {MAX_TOOLS}.", REMEDY)
    for definition in by_name.values():
        characters = len(definition.description)
        if characters > MAX_DESCRIPTION_CHARACTERS:
            raise UserError(
                f"{label}: tool '{definition.name}': its description has {characters} characters, which is more than "
                f"{MAX_DESCRIPTION_CHARACTERS}.",
                REMEDY,
            )
    return list(by_name.values())


def _shown(names: Any) -> str:
    names = list(names)
    shown = ", ".join(clean_text(name)[:80] for name in names[:MAX_NAMES_SHOWN])
    return f"{shown} and {len(names) - MAX_NAMES_SHOWN} more" if len(names) > MAX_NAMES_SHOWN else shown
