"""Whatever is sent: no answer of 5xx, none of a status that the description does not have.

`make test-api` takes 2,000 generated cases; `AGENTRFT_SCHEMA_EXAMPLES` says how many for each operation.
"""

import os
from collections import Counter
from pathlib import Path

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from tests.server.live import Live

EXAMPLES = int(os.environ.get("AGENTRFT_SCHEMA_EXAMPLES", "4"))


def test_generated_requests_get_documented_answers_and_never_5xx(server: Live) -> None:
    root = server.url.removesuffix("/v1")
    schema = schemathesis.openapi.from_dict(httpx.get(f"{root}/openapi.json").json())
    seen: Counter[str] = Counter()
    statuses: Counter[int] = Counter()
    wrong: list[str] = []
    with httpx.Client(base_url=root, timeout=60) as http:
        for result in schema.get_all_operations():
            operation = result.ok()
            documented = {str(status) for status in operation.definition.raw["responses"]}

            @given(case=operation.as_strategy())
            @settings(
                max_examples=EXAMPLES, deadline=None, database=None, phases=[Phase.generate], derandomize=True,
                suppress_health_check=list(HealthCheck),
            )  # fmt: skip
            def check(case: schemathesis.Case, label: str = operation.label, documented: set[str] = documented) -> None:
                answer = case.call(base_url=root, timeout=60)
                seen[label] += 1
                statuses[answer.status_code] += 1
                if answer.status_code >= 500 or str(answer.status_code) not in documented:
                    wrong.append(f"{label}: {answer.status_code} {answer.text[:200]} {case.as_curl_command()[:600]}")

            check()
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
