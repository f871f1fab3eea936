"""Calls as Python writes them, `[f(a="x"), g()]`: LFM2, and Llama's built-in tools."""

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from renderers.base import ParsedToolCall, ToolCallParseStatus

from agentrft.chat.call_formats.base import Calls, Tools, attempt, blocks, call, failed

_LONGEST = 100_000
_JSON_NAMES = {"true": True, "false": False, "null": None}
_BROKEN = (SyntaxError, ValueError, RecursionError, MemoryError)


@dataclass(frozen=True)
class PythonCalls:
    """`OPENING [f(a="x", n=1), g()] CLOSING`."""

    label: str
    opening: str
    closing: str

    def read(self, text: str, tools: Tools = ()) -> tuple[str, Calls]:
        found: list[tuple[int, int, ParsedToolCall]] = []
        for begin, end, body, closed in blocks(text, self.opening, self.closing):
            raw = text[begin:end]
            if closed:
                found += [(begin, end, one) for one in python_calls(body, raw)]
            else:
                found.append((begin, end, failed(raw, ToolCallParseStatus.UNCLOSED_BLOCK)))
        return attempt(text, found)

    def write(self, content: str, calls: Sequence[Mapping[str, Any]]) -> str:
        """A turn's text, for templates that leave writing calls to others."""
        return f"{content}{self.opening}[{', '.join(_written(one) for one in calls)}]{self.closing}"


def python_calls(text: str, raw: str) -> Calls:
    """The calls in an expression of Python: one, or a list of them. Nothing is run."""
    try:
        if len(text) > _LONGEST:
            raise ValueError("too long")
        tree = _tree(text.strip())
        nodes = tree.elts if isinstance(tree, ast.List | ast.Tuple) else [tree]
        return [_one(node, raw) for node in nodes] or [failed(raw, ToolCallParseStatus.MALFORMED_STRUCTURE)]
    except _BROKEN:
        return [failed(raw, ToolCallParseStatus.INVALID_JSON)]


def _tree(text: str) -> ast.expr:
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError:
        # Some templates, and so the models, leave line breaks in quoted text as they are.
        return ast.parse(text.replace("\n", "\\n"), mode="eval").body


def _one(node: ast.expr, raw: str) -> ParsedToolCall:
    if not isinstance(node, ast.Call):
        return failed(raw, ToolCallParseStatus.MALFORMED_STRUCTURE)
    name = ast.unparse(node.func).removesuffix(".call")
    if node.args or any(keyword.arg is None for keyword in node.keywords):
        return failed(raw, ToolCallParseStatus.MALFORMED_STRUCTURE, name)
    return call(raw, name, {str(keyword.arg): _value(keyword.value) for keyword in node.keywords})


def _value(node: ast.expr) -> Any:
    """What a literal of Python or of JSON stands for.

    Raises:
        ValueError: it is none.
    """
    match node:
        case ast.Name(id=name) if name in _JSON_NAMES:
            return _JSON_NAMES[name]
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_value(item) for item in items]
        case ast.Dict(keys=keys, values=values) if all(key is not None for key in keys):
            return {str(_value(key)): _value(value) for key, value in zip(keys, values, strict=True) if key}
        case ast.Constant(value=str() | bool() | int() | float() | None as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case _:
            raise ValueError("no literal")


def _written(one: Mapping[str, Any]) -> str:
    function = one.get("function", one)
    arguments = function.get("arguments") or {}
    return f"{function['name']}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"


LFM2 = PythonCalls("Python: <|tool_call_start|>[NAME(key='value')]", "<|tool_call_start|>", "<|tool_call_end|>")
