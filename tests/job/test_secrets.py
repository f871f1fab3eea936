"""Header values on the way into the store and back."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from agentrft.errors import UserError
from agentrft.job.secrets import HIDDEN, restored_spec, stored_spec
from agentrft.spec import load_job


def tool(name: str, secret: str) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {"headers": {"type": "string"}}}
    url = f"http://127.0.0.1:9/{name}"
    return {"name": name, "server_url": url, "headers": {"Authorization": secret}, "parameters": parameters}


def write(folder: Path, tools: list[dict[str, Any]], **others: Any) -> Path:
    grader = {"type": "multi", "calculate_output": "g", "graders": {"g": endpoint_grader()}}
    raw = {
        "model": "smollm2-135m",
        "training_file": "t.jsonl",
        "method": "rft",
        "rft": {"tools": tools, "grader": grader},
        **others,
    }
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return path


def endpoint_grader() -> dict[str, Any]:
    return {"type": "endpoint", "url": "http://127.0.0.1:9/grade", "headers": {"X-Key": "grader secret"}}


def test_values_are_hidden_and_come_back_to_the_endpoint_that_had_them(tmp_path: Path) -> None:
    path = write(tmp_path, [tool("a", "secret of a"), tool("b", "secret of b")])
    stored = stored_spec(load_job(path), path)
    assert "secret" not in str(stored) and HIDDEN in str(stored)
    write(tmp_path, [tool("b", "secret of b"), tool("a", "secret of a")])
    restored = restored_spec(stored)
    assert [dict(one.headers) for one in restored.tools] == [
        {"Authorization": "secret of a"},
        {"Authorization": "secret of b"},
    ]
    assert restored == load_job(path).model_copy(update={"tools": restored.tools})


def test_a_header_is_not_sent_to_another_url_than_the_job_was_started_with(tmp_path: Path) -> None:
    path = write(tmp_path, [tool("a", "secret of a")])
    stored = stored_spec(load_job(path), path)
    moved = {**tool("a", "secret of a"), "server_url": "http://127.0.0.1:10/a"}
    write(tmp_path, [moved])
    with pytest.raises(UserError, match=r"Authorization.*tool a"):
        restored_spec(stored)


@pytest.mark.parametrize(
    ("place", "moved"),
    [
        ({"url": "http://127.0.0.1:9"}, {"url": "http://127.0.0.1:10"}),
        ({"urls": ["http://127.0.0.1:9", "http://127.0.0.1:10"]}, {"urls": ["http://127.0.0.1:9"]}),
        ({"command": "vllm serve --port 9"}, {"command": "other serve"}),
    ],
)
def test_an_engines_headers_come_back_where_it_is_the_same(
    tmp_path: Path, place: dict[str, Any], moved: dict[str, Any]
) -> None:
    engine = {"type": "vllm", "headers": {"Authorization": "secret of the engine"}}
    path = write(tmp_path, [tool("a", "secret of a")], engine={**engine, **place})
    stored = stored_spec(load_job(path), path)
    assert "secret" not in str(stored)
    assert restored_spec(stored).engine == load_job(path).engine
    write(tmp_path, [tool("a", "secret of a")], engine={**engine, **moved})
    with pytest.raises(UserError, match=r"Authorization.*engine"):
        restored_spec(stored)


def test_a_tool_parameter_called_headers_is_no_secret(tmp_path: Path) -> None:
    path = write(tmp_path, [tool("a", "secret of a")])
    stored = stored_spec(load_job(path), path)
    assert stored["job"]["tools"][0]["parameters"]["properties"]["headers"] == {"type": "string"}


def test_the_secrets_of_every_part_of_a_job_are_hidden_and_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANTED", "planted-secret-0123456789")
    hidden = {"X-Key": "${PLANTED}"}
    message = {"role": "user", "content": "{{ sample.output_text }}"}
    raw = {
        "model": "smollm2-135m",
        "training_file": "t.jsonl",
        "engine": {"type": "vllm", "url": "http://127.0.0.1:9/vllm", "headers": hidden},
        "method": "rft",
        "rft": {
            "tools": [
                {"name": "a", "url": "http://127.0.0.1:9/a", "headers": hidden},
                {"type": "mcp", "server_label": "b", "server_url": "http://127.0.0.1:9/b", "headers": hidden},
                {"type": "mcp", "server_label": "c", "command": "c", "env": {"C_KEY": "${PLANTED}"}},
            ],
            "on_rollout_start": {"url": "http://127.0.0.1:9/start", "headers": hidden},
            "on_rollout_end": {"url": "http://127.0.0.1:9/end", "headers": hidden},
            "grader": {
                "type": "multi",
                "calculate_output": "judge + server",
                "graders": {
                    "judge": {
                        "type": "score_model",
                        "model": "j",
                        "base_url": "http://127.0.0.1:9/v1",
                        "headers": hidden,
                        "input": [message],
                    },
                    "server": {"type": "endpoint", "url": "http://127.0.0.1:9/grade", "headers": hidden},
                },
            },
        },
    }
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    spec = load_job(path)
    stored = stored_spec(spec, path)
    assert "planted" not in str(stored) and str(stored).count(HIDDEN) == 8
    assert "planted" not in repr(spec)
    assert restored_spec(stored) == spec
    monkeypatch.setenv("PLANTED", "another-secret-0123456789")
    assert "another-secret" in str(restored_spec(stored).model_dump())


def test_a_url_with_a_password_or_a_key_is_hidden_and_comes_back(tmp_path: Path) -> None:
    url = "http://user:planted-password@127.0.0.1:9/a?code=planted-key"
    path = write(tmp_path, [{**tool("a", "x"), "server_url": url}])
    spec = load_job(path)
    stored = stored_spec(spec, path)
    assert "planted" not in str(stored) and stored["job"]["tools"][0]["server_url"] == "http://127.0.0.1:9/a?***"
    assert "planted" not in repr(spec)
    assert restored_spec(stored) == spec
    write(tmp_path, [])
    with pytest.raises(UserError, match="tool a"):
        restored_spec(stored)


def test_a_faulty_url_is_not_shown_where_it_has_a_key(tmp_path: Path) -> None:
    path = write(tmp_path, [{**tool("a", "x"), "server_url": "ftp://127.0.0.1/a?code=planted-key"}])
    with pytest.raises(UserError, match="server_url") as refused:
        load_job(path)
    assert "planted" not in str(refused.value)
