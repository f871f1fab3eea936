"""Whatever is sent: no answer of 5xx, none of a status, content type or shape that the description does not have.

About half of the requests name what is there: jobs in every state, files, models, runs; and have a body that would do,
or nearly. `make test-api` takes more than 2,000 generated cases; `AGENTRFT_SCHEMA_EXAMPLES` says how many for each
operation.
"""

import os
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.server.live import Live
from tests.server.schema_world import World, world

EXAMPLES = int(os.environ.get("AGENTRFT_SCHEMA_EXAMPLES", "1"))
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
CREATE, EVENTS = "POST /v1/fine_tuning/jobs", "GET /v1/fine_tuning/jobs/{fine_tuning_job_id}/events"
MERGED = "GET /v1/models/{model}/merged"
# What ends things comes when all else has seen them.
LAST = ("/complete", "/pause", "/resume", "/cancel")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=5,
)


def cases(operation: Any, there: World) -> list[tuple[Any, bool]]:
    """Some that the description allows, and some that it does not; and whether they were bent to what is there."""
    found: list[Any] = []
    for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):

        @given(case=operation.as_strategy(generation_mode=mode), data=st.data())
        @settings(
            max_examples=-(-EXAMPLES // 2),
            deadline=None,
            database=None,
            phases=[Phase.generate],
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        def collect(case: Any, data: st.DataObject) -> None:
            known = data.draw(st.sampled_from([True, False]))
            if known:
                use_what_is_there(case, operation.label, there, data)
            found.append((case, known))

        try:
            collect()
        except Unsatisfiable:
            pass  # nothing of an operation without any input can be wrong
    return found


def use_what_is_there(case: Any, label: str, there: World, data: st.DataObject) -> None:
    if label == MERGED:
        return  # each would take a process that loads two models
    names = set(case.path_parameters or {})
    places = [place for place in there.places if names and names <= set(place)]
    if places:
        place = data.draw(st.sampled_from(places))
        case.path_parameters = {name: place[name] for name in names}
    if "after" in (case.query or {}):
        case.query["after"] = data.draw(st.sampled_from(there.after))
    if label in there.bodies:
        case.body, case.media_type = nearly(data.draw(st.sampled_from(there.bodies[label])), data), "application/json"
    if label == EVENTS and case.path_parameters["fine_tuning_job_id"] in there.streaming:
        case.query.pop("stream", None)


def place_of(operation: Any) -> tuple[bool, int]:
    ends = [place for place, ending in enumerate(LAST) if operation.path.endswith(ending)]
    return operation.method == "delete", max(ends, default=-1)


def nearly(body: dict[str, Any], data: st.DataObject) -> dict[str, Any]:
    """The body, or with one field, at any depth, left out, made something else, or added."""
    changed = deepcopy(body)
    change = data.draw(st.sampled_from(["none", "drop", "replace", "add"]))
    if change == "none":
        return changed
    parent = changed
    while (inner := [value for value in parent.values() if isinstance(value, dict) and value]) and data.draw(
        st.booleans()
    ):
        parent = data.draw(st.sampled_from(inner))
    name = data.draw(st.sampled_from(sorted(parent)))
    if change == "drop":
        del parent[name]
    else:
        parent[name if change == "replace" else data.draw(st.text(max_size=10))] = data.draw(JSON)
    return changed


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("world"), tiny_model) as made:
        yield made


def test_generated_requests_get_the_answers_that_are_described_and_never_5xx(there: World) -> None:
    schema = schemathesis.openapi.from_dict(httpx.get(f"{there.url}/openapi.json").json())
    operations = [result.ok() for result in schema.get_all_operations()]
    seen: Counter[str] = Counter()
    statuses: dict[bool, Counter[int]] = {True: Counter(), False: Counter()}
    done: set[str] = set()
    wrong: list[str] = []
    for operation in sorted(operations, key=place_of):
        for case, known in cases(operation, there):
            answer = case.call(base_url=there.url, timeout=60)
            seen[operation.label] += 1
            statuses[known][answer.status_code] += 1
            if answer.status_code == 200:
                done.add(operation.label)
                # A repeated request is answered with the job that it made before.
                if operation.label == CREATE and answer.json()["status"] != "cancelled":
                    there.client.fine_tuning.jobs.cancel(answer.json()["id"])
            try:
                case.validate_response(answer, checks=CHECKS)
            except FailureGroup as failures:
                shown = "; ".join(f"{one.title}: {one.message[:300]}" for one in failures.exceptions)  # type: ignore[attr-defined]
                wrong.append(f"{operation.label}: {answer.status_code} {shown} {case.as_curl_command()[:600]}")
    print(
        f"{seen.total()} cases of {len(seen)} operations: "
        + "; ".join(
            f"{statuses[known].total()} with {what}: {dict(sorted(statuses[known].items()))}"
            for known, what in ((True, "what is there"), (False, "anything"))
        )
    )
    never = {operation.label for operation in operations} - done
    print(f"never 200: {sorted(never)}")
    assert not wrong, "\n".join(wrong[:10])
    assert len(seen) > 30 and len(done) > len(seen) / 2


def test_every_operation_describes_what_it_answers(server: Live) -> None:
    described = httpx.get(f"{server.url.removesuffix('/v1')}/openapi.json").json()
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            content = operation["responses"]["200"]["content"]
            assert content and all(one["schema"] for one in content.values()), (method, path)
            assert "422" not in operation["responses"]
    for name, schema in described["components"]["schemas"].items():
        if "Body_" not in name and schema["type"] == "object":
            assert schema.get("additionalProperties") is False or name in REQUESTS, name


REQUESTS = ("UploadCreate", "UploadComplete", "PermissionCreate")


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
