"""Whatever is sent: no answer of 5xx, none of a status that the description does not have.

`make test-api` takes 2,000 generated cases; `AGENTRFT_SCHEMA_EXAMPLES` says how many for each operation.
"""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable

from tests.server.live import Live

EXAMPLES = int(os.environ.get("AGENTRFT_SCHEMA_EXAMPLES", "4"))


def cases(operation: Any) -> list[Any]:
    """Some that the description allows, and some that it does not."""
    found: list[Any] = []
    for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=-(-EXAMPLES // 2), deadline=None, database=None, phases=[Phase.generate], derandomize=True,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        def collect(case: Any) -> None:
            found.append(case)

        try:
            collect()
        except Unsatisfiable:
            pass  # nothing of an operation without any input can be wrong
    return found


def test_generated_requests_get_documented_answers_and_never_5xx(server: Live) -> None:
    root = server.url.removesuffix("/v1")
    schema = schemathesis.openapi.from_dict(httpx.get(f"{root}/openapi.json").json())
    seen: Counter[str] = Counter()
    statuses: Counter[int] = Counter()
    wrong: list[str] = []
    for result in schema.get_all_operations():
        operation = result.ok()
        documented = {str(status) for status in operation.definition.raw["responses"]}
        for case in cases(operation):
            answer = case.call(base_url=root, timeout=60)
            seen[operation.label] += 1
            statuses[answer.status_code] += 1
            if answer.status_code >= 500 or str(answer.status_code) not in documented:
                shown = f"{answer.text[:200]} {case.as_curl_command()[:600]}"
                wrong.append(f"{operation.label}: {answer.status_code} {shown}")
    print(f"{seen.total()} cases of {len(seen)} operations: {dict(sorted(statuses.items()))}")
    assert len(seen) > 30
    assert not wrong, "\n".join(wrong[:10])
    assert statuses[200] > 0 and statuses[400] > 0 and statuses[404] > 0


def test_every_error_has_the_shape_that_the_sdk_reads(server: Live) -> None:
    for method, path, status in [
        ("GET", "/v1/nothing", 404),
        ("PUT", "/v1/files", 405),
        ("POST", "/v1/fine_tuning/jobs", 400),
        ("POST", "/v1/chat/completions", 400),
        ("GET", "/v1/files?limit=many", 400),
    ]:
        answer = httpx.request(method, server.url.removesuffix("/v1") + path)
        assert answer.status_code == status
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"} and error["message"]
        assert answer.headers["x-should-retry"] == "false" and answer.headers["x-request-id"].startswith("req_")


def test_the_pages_about_the_api_name_every_group_of_operations(server: Live) -> None:
    described = httpx.get(f"{server.url.removesuffix('/v1')}/openapi.json").json()
    text = "".join(Path(one).read_text() for one in ("docs/migrate-from-openai.md", "docs/server.md"))
    groups = {path.removeprefix("/v1/").split("/")[0].split("{")[0] for path in described["paths"]}
    assert {group for group in groups if group not in text} == set()
