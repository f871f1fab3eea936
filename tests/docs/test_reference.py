"""The pages that are made of commands and spec classes are what these are now, and say something of every field."""

import re
import sys

import griffe
import pytest
from pydantic import BaseModel

from tests.docs.markdown import ROOT, text_of

sys.path.insert(0, str(ROOT / "scripts"))
import write_reference

CLASSES = [one for classes in write_reference.GROUPS.values() for one in classes]


@pytest.mark.parametrize("file", write_reference.PAGES)
def test_the_page_is_up_to_date(file: str) -> None:
    written = (write_reference.FOLDER / file).read_text(encoding="utf-8")
    assert written == write_reference.PAGES[file](), f"run `make docs`, and commit docs/reference/{file}"


@pytest.mark.parametrize("model", CLASSES)
def test_every_field_and_every_class_is_described(model: type[BaseModel]) -> None:
    assert write_reference.summary_of(model)
    undescribed = [name for name, text in write_reference.descriptions_of(model).items() if not text]
    assert not undescribed, f"give them a line under `Attributes:` of {model.__name__}"


@pytest.mark.parametrize("model", CLASSES)
def test_every_class_that_a_field_may_have_is_listed(model: type[BaseModel]) -> None:
    named = set(model.model_json_schema().get("$defs", {}))
    assert named <= write_reference.LISTED


PACKAGE = griffe.load("agentrft", search_paths=[ROOT / "src"], docstring_parser="google")
NAMED = re.findall(r"^::: agentrft\.(\S+)$", text_of("docs/reference/python.md"), re.MULTILINE)


def described(thing: griffe.Object) -> set[str]:
    """Arguments and attributes that a docstring says something of."""
    sections = thing.docstring.parsed if thing.docstring else []
    kinds = (griffe.DocstringSectionParameters, griffe.DocstringSectionAttributes)
    return {one.name for section in sections if isinstance(section, kinds) for one in section.value}


@pytest.mark.parametrize("name", NAMED)
def test_what_the_reference_of_python_shows_is_described_to_its_last_argument(name: str) -> None:
    thing = PACKAGE[name]
    thing = thing.final_target if thing.is_alias else thing
    assert thing.docstring, name
    public = {key: one for key, one in thing.members.items() if not key.startswith("_") and not one.is_alias}
    if thing.is_function:
        assert {one.name for one in thing.parameters} == described(thing)
    if "dataclass" in thing.labels:
        fields = {key for key, one in public.items() if one.is_attribute and "property" not in one.labels}
        assert fields == described(thing)
    assert not [key for key, one in public.items() if (one.is_function or one.is_class) and not one.docstring]
