"""Formulas and templates of any text: an answer or a clear error, and nothing of Python behind it.

Each property takes 500 inputs here and 100,000 in `make test-fuzz`.
"""

import gc
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentrft.data.templates import TemplateError, render_template, template_fields
from agentrft.errors import UserError
from agentrft.graders.formula import Formula, FormulaError

EXAMPLES = settings(max_examples=int(os.environ.get("AGENTRFT_FUZZ_EXAMPLES", "500")), deadline=None)
FORBIDDEN = ("exec", "compile", "import", "open", "os.", "subprocess.", "socket.", "ctypes.", "object.__getattr__")

PYTHON = [
    "__class__",
    "__import__('os')",
    "os.system('id')",
    "lambda: 0",
    "item.__dict__",
    "().__class__",
    "exec('1')",
    "__builtins__",
    "{% import os %}",
    "{{ self }}",
    "{{ config }}",
    "getattr(item, 'x')",
    "f'{item}'",
    "\\x00",
    "\n",
]
FORMULA_PARTS = [
    "a",
    "b",
    "min",
    "max",
    "abs",
    "floor",
    "ceil",
    "exp",
    "sqrt",
    "log",
    "(",
    ")",
    ",",
    "+",
    "-",
    "*",
    "/",
    "^",
    "**",
    " ",
    "0",
    "1",
    "2.5",
    ".5",
    "1e9",
    "1e400",
    "1e-400",
    "9" * 400,
    "nan",
    "inf",
    "True",
    "[",
    "]",
    ".",
    "=",
    ";",
]
TEMPLATE_PARTS = [
    "{{",
    "}}",
    "{",
    "}",
    "item",
    "sample",
    ".",
    "[",
    "]",
    '"',
    "'",
    "\\",
    " ",
    "a",
    "list",
    "deep",
    "0",
    "-1",
    "99",
    "output_text",
    "answer",
    "ü",
    "\ud83d",
    "٣",
    "{{ item.a }}",
    "{{ item.list[0] }}",
    '{{ item["odd key"] }}',
]

formulas = st.lists(st.sampled_from(FORMULA_PARTS + PYTHON) | st.text(max_size=3), max_size=25).map("".join)
templates = st.lists(st.sampled_from(TEMPLATE_PARTS + PYTHON) | st.text(max_size=3), max_size=20).map("".join)
numbers = st.floats(allow_nan=False, allow_infinity=False)

watched: list[str] | None = None


def watch(event: str, _: tuple[Any, ...]) -> None:
    if watched is not None and event.startswith(FORBIDDEN):
        watched.append(event)


@pytest.fixture(scope="module", autouse=True)
def hook() -> None:
    sys.addaudithook(watch)


@contextmanager
def nothing_of_python() -> Iterator[None]:
    """Fails where Python code is compiled or run, or anything outside is touched."""
    global watched
    # What other tests left behind may do such things where it is collected.
    gc.disable()
    watched = []
    try:
        yield
        assert watched == []
    finally:
        watched = None
        gc.enable()


class Guarded(dict[str, Any]):
    """A mapping that notices when anything but a mapping's own methods is asked of it."""

    def __getattribute__(self, name: str) -> Any:
        assert name in ("__class__", "get", "keys", "items", "__getitem__", "__contains__", "__iter__", "__len__"), name
        return super().__getattribute__(name)


ITEM = Guarded({"a": "text", "list": [1, {"deep": None}], "odd key": 1.5, "deep": Guarded({"a": {"b": "c"}}), "": 0})
SAMPLE = Guarded({"output_text": "answer", "output_tools": []})


@EXAMPLES
@given(formulas, numbers, numbers)
def test_a_formula_gives_a_finite_number_or_a_clear_error(text: str, a: float, b: float) -> None:
    with nothing_of_python():
        try:
            value = Formula(text, ["a", "b"]).evaluate({"a": a, "b": b})
        except FormulaError as error:
            assert any(part in error.cause for part in ("position", "longer", "whatever the scores are"))
            assert error.remedy
        except ArithmeticError as error:
            assert str(error)
        else:
            assert isinstance(value, float | int) and math.isfinite(value)


@EXAMPLES
@given(templates)
def test_a_template_gives_text_or_a_clear_error(text: str) -> None:
    with nothing_of_python():
        try:
            assert isinstance(render_template(text, item=ITEM, sample=SAMPLE), str)
            assert all(field.startswith(("item", "sample")) for field in template_fields(text))
        except TemplateError as error:
            assert isinstance(error, UserError) and error.cause and error.remedy


@EXAMPLES
@given(st.text(), st.dictionaries(st.text(), st.text(), max_size=3))
def test_text_without_braces_is_left_as_it_is(text: str, item: dict[str, str]) -> None:
    plain = text.replace("{{", "")
    with nothing_of_python():
        assert render_template(plain, item=item, sample=None) == plain
