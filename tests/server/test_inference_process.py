from pathlib import Path

import pytest
from openai import InternalServerError, OpenAI

from tests.server.inference_models import weights
from tests.server.inference_server import ask, headers, running_process


def test_the_process_answers_survives_broken_weights_and_ends_with_its_parent(tiny_model: Path, tmp_path: Path) -> None:
    broken = weights(tiny_model).model_copy(update={"folder": tmp_path})
    with running_process("--max-models", "1") as (process, url):
        client = OpenAI(base_url=url, api_key="-", max_retries=0)
        with pytest.raises(InternalServerError, match="no weights"):
            ask(client.with_options(default_headers=headers(broken)))
        answer = ask(client.with_options(default_headers=headers(weights(tiny_model, "white"))))
        assert process.stdin is not None
        process.stdin.close()

        assert process.wait(30) == 0
        assert answer.choices[0].message.content == "white"
