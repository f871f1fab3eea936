"""One tiny model of each kind for all tests here, which only read it unless they make their own."""

from collections.abc import Callable
from functools import cache

import pytest
import torch

from tests.tiny_model import TinyModel, tiny_model


@pytest.fixture(scope="session")
def shared_model() -> Callable[..., TinyModel]:
    @cache
    def make(architecture: str = "llama", dtype: torch.dtype = torch.float32) -> TinyModel:
        return tiny_model(architecture, dtype)

    return make
