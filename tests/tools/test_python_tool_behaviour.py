"""What a user's Python does to the tool that runs it: it exits, raises, returns or names its parameters as it likes."""

import asyncio
import json
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentrft.errors import UserError
from agentrft.spec import PythonToolSpec
from agentrft.tools import PythonTool, ToolCall, ToolFailure, ToolResult

Make = Callable[..., PythonTool]


@pytest.fixture
def make(tmp_path: Path, request: pytest.FixtureRequest) -> Make:
    """A tool made of source text; the function is `tool`."""

    def _make(source: str, **fields: Any) -> PythonTool:
        module = f"behaving_{abs(hash((request.node.name, source)))}"
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(source))
        spec = {"type": "python", "function": f"{module}:tool", "folder": tmp_path, **fields}
        return PythonTool(PythonToolSpec.model_validate(spec))

    return _make


async def run(tool: PythonTool, **arguments: Any) -> ToolResult:
    call = ToolCall("call_1", tool.name, json.dumps(arguments))
    return await tool.call(call, trace_id="trace_1", attempt=1, item={"word": "apple"})


RAISING = {
    "sys.exit(0)": "SystemExit: 0",
    "sys.exit()": "SystemExit: ",
    "raise KeyboardInterrupt": "KeyboardInterrupt: ",
    "raise GeneratorExit('over')": "GeneratorExit: over",
    "raise asyncio.CancelledError('mine')": "CancelledError: mine",
    "next(iter([]))": "StopIteration",
    "next(word for word in [] if word)": "StopIteration",
    "raise TimeoutError('of the database')": "TimeoutError: of the database",
    "raise BaseExceptionGroup('many', [SystemExit(1), KeyboardInterrupt()])": "BaseExceptionGroup: many",
    "raise ExceptionGroup('one', [OSError('disk')])": "OSError: disk",
    "raise Odd": "Odd: (its text cannot be read: ZeroDivisionError)",
    "raise RuntimeError(chr(0xd83d))": "RuntimeError: \ufffd",
    "def again(): again()\n    again()": "RecursionError: ",
}
PRELUDE = """
import asyncio, sys
class Odd(Exception):
    def __str__(self):
        1 / 0
"""


@pytest.mark.parametrize("statement", RAISING)
@pytest.mark.parametrize("kind", ["def", "async def"])
async def test_whatever_a_tool_raises_is_its_failure_and_not_the_end_of_the_job(
    make: Make, kind: str, statement: str
) -> None:
    tool = make(f"{PRELUDE}\n{kind} tool() -> str:\n    {statement}\n", timeout_s=30)
    started = time.monotonic()
    with pytest.raises(ToolFailure) as failed:
        await run(tool)
    assert failed.value.kind == "exception" and RAISING[statement] in str(failed.value)
    assert time.monotonic() - started < 20, "it waited for the whole time-out"
    assert asyncio.current_task() is not None and not asyncio.current_task().cancelling()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "statement", ["sys.exit(0)", "raise KeyboardInterrupt", "raise asyncio.CancelledError", "1 / 0"]
)
def test_a_module_that_ends_while_it_is_imported_is_refused(make: Make, statement: str) -> None:
    with pytest.raises(UserError, match="cannot be imported: (SystemExit|KeyboardInterrupt|Cancelled|ZeroDivision)"):
        make(f"{PRELUDE}\n{statement}\ndef tool(): ...\n")


async def test_a_call_that_is_cancelled_from_outside_is_cancelled(make: Make) -> None:
    tool = make("import asyncio\nasync def tool():\n    await asyncio.sleep(30)\n")
    calling = asyncio.create_task(run(tool))
    await asyncio.sleep(0.05)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling


async def test_a_coroutine_that_does_not_listen_to_its_end_is_given_up_in_time(make: Make) -> None:
    deaf = """
    import asyncio
    async def tool():
        for _ in range(50):
            try:
                await asyncio.sleep(0.2)
            except asyncio.CancelledError:
                pass
    """
    started = time.monotonic()
    with pytest.raises(ToolFailure) as failed:
        await run(make(deaf, timeout_s=0.1))
    assert failed.value.kind == "timeout" and time.monotonic() - started < 5


@pytest.mark.parametrize(
    "source",
    [
        "async def inner(): return 'fine'\ndef tool(): return inner()",
        "async def inner(): return 'fine'\nasync def tool(): return inner()",
        "async def inner(): return 'fine'\ntool = lambda: inner()",
        "import functools\nasync def inner(a): return 'fine'\ntool = functools.partial(inner, a=1)",
        "class Tool:\n    async def __call__(self): return 'fine'\ntool = Tool()",
        "import functools\ndef logged(f):\n    @functools.wraps(f)\n    def wrapper(*a, **k): return f(*a, **k)\n"
        "    return wrapper\n@logged\nasync def tool(): return 'fine'",
    ],
)
async def test_what_is_returned_to_be_awaited_is_awaited(make: Make, source: str) -> None:
    assert (await run(make(source))).output == "fine"


async def test_a_returned_coroutine_has_the_tools_time_and_its_errors(make: Make) -> None:
    slow = "import asyncio\nasync def inner(): await asyncio.sleep(30)\ndef tool(): return inner()"
    with pytest.raises(ToolFailure, match="timeout"):
        await run(make(slow, timeout_s=0.1))
    refusing = """
    from agentrft.tools import ToolError
    async def inner(): raise ToolError("no such title")
    def tool(): return inner()
    """
    result = await run(make(refusing))
    assert (result.output, result.status) == ("no such title", "client_error")


async def test_a_task_groups_one_refusal_is_the_models_to_read(make: Make) -> None:
    source = """
    import asyncio
    from agentrft.tools import ToolError
    async def inner(): raise ToolError("no such title")
    async def tool():
        async with asyncio.TaskGroup() as group:
            group.create_task(inner())
    """
    result = await run(make(source))
    assert (result.output, result.status) == ("no such title", "client_error")


VALUES = """
import asyncio, collections, dataclasses, datetime, decimal, enum, pathlib, uuid
import numpy as np, pydantic
class Book(pydantic.BaseModel):
    title: str
    price: decimal.Decimal
@dataclasses.dataclass
class Point:
    x: int
    when: datetime.date
class Colour(enum.Enum):
    red = "red"
class Text(str, enum.Enum):
    red = "red"
def yields():
    yield 1
    yield {"a": 2}
async def yields_later():
    yield 1
def for_ever():
    while True:
        yield 1
async def for_ever_later():
    while True:
        yield 1
class Table:
    columns = ["a"]
    def to_dict(self, orient): return [{"a": 1}] if orient == "records" else None
nest = {}
nest["me"] = nest
"""
RESULTS = {
    "Book(title='é', price=decimal.Decimal('1.50'))": '{"title": "é", "price": "1.50"}',
    "[Book(title='a', price=1)]": '[{"title": "a", "price": "1"}]',
    "Point(1, datetime.date(2026, 1, 2))": '{"x": 1, "when": "2026-01-02"}',
    "{'n': np.int64(3), 'f': np.float32(0.5), 'b': np.bool_(True), 'd': np.float64(1.5)}": (
        '{"n": 3, "f": 0.5, "b": true, "d": 1.5}'
    ),
    "np.arange(4).reshape(2, 2)": "[[0, 1], [2, 3]]",
    "np.array([1.0, np.nan])": "[1.0, null]",
    "np.float32(2)": "2.0",
    "{'when': np.array(['2026-01-02'], dtype='datetime64[D]')}": '{"when": ["2026-01-02"]}',
    "float('nan')": "null",
    "{'a': [float('inf')]}": '{"a": [null]}',
    "datetime.datetime(2026, 1, 2, 3, 4, 5)": "2026-01-02T03:04:05",
    "decimal.Decimal('0.10')": "0.10",
    "uuid.UUID(int=1)": "00000000-0000-0000-0000-000000000001",
    "pathlib.PurePosixPath('/a/b')": "/a/b",
    "{3}": "[3]",
    "(1, 'a')": '[1, "a"]',
    "collections.deque([1])": "[1]",
    "{1: 'a'}.keys()": "[1]",
    "{1: 'a'}.items()": '[[1, "a"]]',
    "{1: 'a'}.values()": '["a"]',
    "collections.UserDict(a=1)": '{"a": 1}',
    "range(3)": "[0, 1, 2]",
    "{1: 'a', None: 'b'}": '{"1": "a", "None": "b"}',
    "'grün'.encode()": "grün",
    "Colour.red": "red",
    "Text.red": "red",
    "yields()": '[1, {"a": 2}]',
    "yields_later()": "[1]",
    "map(str, [1, 2])": '["1", "2"]',
    "Table()": '[{"a": 1}]',
    "'a' + chr(0xd83d)": "a\ufffd",
    "[chr(0xd83d)]": '["\ufffd"]',
    "None": "null",
    "True": "true",
    "10**30": "1000000000000000000000000000000",
    "10**5000": None,
    "object()": None,
    "b'\\xff'": None,
    "lambda: 0": None,
    "nest": None,
    "for_ever()": None,
    "for_ever_later()": None,
    "np.array([object()])": None,
}


@pytest.mark.parametrize("kind", ["def", "async def"])
@pytest.mark.parametrize("value", RESULTS)
async def test_a_result_becomes_text_or_a_failure_that_names_its_type(make: Make, kind: str, value: str) -> None:
    tool = make(f"{VALUES}\n{kind} tool():\n    return {value}\n", timeout_s=30)
    if RESULTS[value] is not None:
        assert (await run(tool)).output == RESULTS[value]
        return
    with pytest.raises(ToolFailure, match="bad_answer: (returned a |yielded more than)"):
        await run(tool)


@pytest.mark.parametrize(
    "name",
    [
        "model_dump",
        "model_config",
        "_q",
        "__q",
        "schema",
        "json",
        "copy",
        "self",
        "cls",
        "field",
        "argument_0",
        "größe",
    ],
)
async def test_any_name_is_a_parameters(make: Make, name: str) -> None:
    tool = make(f"def tool({name}: int, other: str = 'x') -> str:\n    return f'{{{name} + 1}} {{other}}'\n")
    assert tool.parameters["required"] == [name]
    assert tool.parameters["properties"] == {name: {"type": "integer"}, "other": {"type": "string", "default": "x"}}
    assert (await run(tool, **{name: 2})).output == "3 x"
    assert (await run(tool, **{name: 2, "other": "y"})).output == "3 y"
    refused = await run(tool, **{name: "two"})
    assert refused.status == "client_error" and name in refused.output


@pytest.mark.parametrize(
    ("signature", "call", "arguments", "output"),
    [
        ("a: int, b: int = 2, /, c: int = 3", "[a, b, c]", {"a": 1, "c": 5}, "[1, 2, 5]"),
        ("a: int, b: int = 2, /, *, item", "[a, b, item['word']]", {"a": 1, "b": 7}, '[1, 7, "apple"]'),
        ("trace_id, /, a", "[trace_id, a]", {"a": 1}, '["trace_1", 1]'),
        ("a=object()", "type(a).__name__", {}, "object"),
        ("a: float = float('nan')", "a != a", {}, "true"),
        ("a: 'datetime.date' = datetime.date(2026, 1, 2)", "a.year", {}, "2026"),
        ("a: datetime.date", "a.year", {"a": "2025-05-05"}, "2025"),
        ("a: set[int] = {1}", "sorted(a)", {}, "[1]"),
        ("a: int = Field(4, ge=1, description='how many')", "a", {}, "4"),
        ("a: Annotated[int, Field(ge=1)] = 4", "a", {"a": 5}, "5"),
        ("from_: Annotated[str, Field(alias='from')]", "from_", {"from": "x"}, "x"),
    ],
)
async def test_parameters_of_all_kinds(
    make: Make, signature: str, call: str, arguments: dict[str, Any], output: str
) -> None:
    source = "import datetime\nfrom typing import Annotated\nfrom pydantic import Field\n"
    tool = make(f"{source}\ndef tool({signature}):\n    return {call}\n")
    json.dumps(tool.parameters, allow_nan=False)
    assert (await run(tool, **arguments)).output == output


@pytest.mark.parametrize(
    ("signature", "cause"),
    [
        ("*words", "has no name of its own"),
        ("**options", "has no name of its own"),
        ("a: 'Unknown'", "its signature cannot be read"),
        ("a: '1 / 0'", "its signature cannot be read"),
        ("a: object.__init__", "no schema for its signature"),
        ("a: Callable[[], int]", "no schema for its signature"),
    ],
)
def test_a_signature_that_no_arguments_fit_is_refused(make: Make, signature: str, cause: str) -> None:
    with pytest.raises(UserError, match=cause):
        make(f"from collections.abc import Callable\ndef tool({signature}): ...\n")


async def test_a_type_whose_own_check_breaks_is_the_tools_failure(make: Make) -> None:
    source = """
    from typing import Annotated
    from pydantic import AfterValidator
    def check(value): raise OSError("no word list")
    def tool(word: Annotated[str, AfterValidator(check)]): return word
    """
    with pytest.raises(ToolFailure, match="exception: OSError: no word list"):
        await run(make(source), word="a")


async def test_half_a_surrogate_pair_in_the_arguments_becomes_a_character(make: Make) -> None:
    tool = make("def tool(word: str): return word.encode().decode()")
    call = ToolCall("call_1", tool.name, '{"word": "\\ud83d"}')
    assert (await tool.call(call, trace_id="t", attempt=1, item={})).output == "\ufffd"
    broken = ToolCall("call_1", tool.name, '{"word": ' + "[" * 5000)
    assert (await tool.call(broken, trace_id="t", attempt=1, item={})).status == "client_error"


SLY = """
import sys
from typing import Annotated
from pydantic import AfterValidator, BaseModel, Field
class Sly:
    def __repr__(self): sys.exit(3)
def exits(value): sys.exit(3)
def refuses(value): raise ValueError(Sly())
class Text(BaseException):
    def __str__(self): sys.exit(3)
"""


@pytest.mark.parametrize("kind", ["def", "async def"])
@pytest.mark.parametrize("raised", ["ValueError(Sly())", "Text()"])
async def test_a_text_that_exits_is_a_failure_and_not_the_end_of_the_job(make: Make, kind: str, raised: str) -> None:
    with pytest.raises(ToolFailure, match=r"exception: \w+: \(its text cannot be read: SystemExit\)"):
        await run(make(f"{SLY}\n{kind} tool(): raise {raised}\n"))


@pytest.mark.parametrize("check", ["exits", "refuses"])
async def test_a_type_whose_check_exits_is_a_failure_and_not_the_end_of_the_job(make: Make, check: str) -> None:
    tool = make(f"{SLY}\ndef tool(a: Annotated[str, AfterValidator({check})]): return a\n")
    with pytest.raises(ToolFailure, match="exception: SystemExit: 3"):
        await run(tool, a="x")


@pytest.mark.parametrize("parameter", ["a: 'sys.exit(3)'", "a=Sly()"])
def test_a_signature_that_exits_is_refused(make: Make, parameter: str) -> None:
    with pytest.raises(UserError, match="signature.*SystemExit: 3"):
        make(f"{SLY}\ndef tool({parameter}): return 1\n")


NOT_FINITE = """
from typing import Annotated
from pydantic import BaseModel, Field
class Inner(BaseModel):
    default: float = float("inf")
    limit: float = Field(2.0, examples=[float("nan")])
class Outer(BaseModel):
    inner: Inner = Inner()
    many: list[Inner] = []
    shown: Annotated[float, Field(json_schema_extra={"example": float("nan"), "step": float("inf")})] = 1.0
"""


@pytest.mark.parametrize(
    "parameter", ["a: Outer", "a: Outer = Outer()", "a: Inner | None = None", "a: float = Field(1.0, examples=[1e999])"]
)
async def test_defaults_and_examples_that_json_has_not_are_not_shown(make: Make, parameter: str) -> None:
    tool = make(f"{NOT_FINITE}\ndef tool({parameter}): return 'called'\n")
    json.dumps(tool.parameters, allow_nan=False)
    if "Inner" in tool.parameters.get("$defs", {}):
        inner = tool.parameters["$defs"]["Inner"]["properties"]
        assert inner["default"] == {"title": "Default", "type": "number"}
        assert inner["limit"] == {"title": "Limit", "type": "number", "default": 2.0}
    assert (await run(tool, a=1.0 if "float" in parameter else {})).output == "called"


def test_half_a_surrogate_pair_in_what_describes_a_tool_becomes_a_character(make: Make) -> None:
    tool = make("""
    from typing import Annotated
    from pydantic import Field
    def tool(a: str, b: Annotated[str, Field(description=chr(0xd800))] = "\\ud800"):
        "Of \\ud800.\\n\\nArgs:\\n    a: a \\ud800"
    """)
    assert tool.description == "Of \ufffd."
    shown = {name: entry["description"] for name, entry in tool.parameters["properties"].items()}
    assert shown == {"a": "a \ufffd", "b": "\ufffd"}
    json.dumps(tool.parameters, ensure_ascii=False).encode()
