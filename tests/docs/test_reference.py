"""The pages that are made of commands and spec classes are what these are now, and say something of every field."""

import sys

import pytest
from pydantic import BaseModel

from tests.docs.markdown import ROOT

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
