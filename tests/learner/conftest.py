"""Fresh tiny models, because learning changes them."""

import pytest

from tests.tiny_model import TinyModel, tiny_model


@pytest.fixture
def model() -> TinyModel:
    return tiny_model("llama")
