"""Runs of evals whose worker or server is killed go on with the rows that are left; one that is canceled ends."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from openai import NotFoundError

from tests.server.eval_requests import items_of, jsonl, make_eval, over, start_run
from tests.server.live import PYTHON_GRADER, Live, live, lives, until

EVAL_WORKER = "agentrft.server.evals.worker"
# More than one batch of rows, of which the last takes long.
QUICK, SLOW = 70, 4
SLEEPS = {
    **PYTHON_GRADER,
    "source": "import time\ndef grade(sample, item):\n    time.sleep(item['seconds'])\n    return 1.0",
}
ROWS: list[Any] = [{"item": {"word": f"w{n}", "seconds": 0}, "sample": {"output_text": "x"}} for n in range(QUICK)]
ENDED_WITHIN_S = 20


def with_slow_rows(seconds: float) -> Any:
    return jsonl([*ROWS, *({"item": {"word": "slow", "seconds": seconds}} for _ in range(SLOW))])


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Live]:
    with live(tmp_path_factory.mktemp("evals") / "data", tiny_model) as started:
        yield started


def the_worker(server: Live) -> psutil.Process | None:
    assert server.process is not None
    for child in psutil.Process(server.process.pid).children():
        if lives(child) and EVAL_WORKER in child.cmdline():
            return child
    return None


def begun(server: Live, eval_id: str, run_id: str) -> tuple[psutil.Process, dict[int, str]]:
    """The worker of a run that has graded its first batch, and the items by line."""
    client = server.client()

    def items() -> Any:
        return client.evals.runs.output_items.list(run_id, eval_id=eval_id, limit=100).data

    until(items, "the first rows are graded")
    worker = the_worker(server)
    assert worker is not None
    return worker, {one.datasource_item_id: one.sample.agentrft["messages"] and one.created_at for one in items()}


def test_a_run_goes_on_after_its_worker_and_after_its_server_was_killed(own_server: Live) -> None:
    client = own_server.client()
    eval_id = make_eval(client, SLEEPS)
    run_id = start_run(client, eval_id, with_slow_rows(4))
    worker, before = begun(own_server, eval_id, run_id)
    worker.send_signal(signal.SIGKILL)
    until(lambda: (found := the_worker(own_server)) and found.pid != worker.pid, "another worker")
    port = own_server.port
    own_server.kill()
    own_server.start(port)
    run = over(client, eval_id, run_id)
    assert (run.status, run.result_counts.passed, run.result_counts.total) == ("completed", QUICK + SLOW, QUICK + SLOW)
    after = {one.datasource_item_id: one.created_at for one in items_of(client, run)}
    assert len(after) == QUICK + SLOW and before.items() <= after.items(), "what was graded stays"


@pytest.mark.parametrize("deletes", [False, True])
def test_a_run_that_is_canceled_or_deleted_leaves_no_process(own_server: Live, deletes: bool) -> None:
    client = own_server.client()
    eval_id = make_eval(client, SLEEPS)
    run_id = start_run(client, eval_id, with_slow_rows(100))
    worker, _ = begun(own_server, eval_id, run_id)
    children = worker.children(recursive=True)
    if deletes:
        client.evals.delete(eval_id)
        with pytest.raises(NotFoundError):
            client.evals.runs.retrieve(run_id, eval_id=eval_id)
    else:
        assert client.evals.runs.cancel(run_id, eval_id=eval_id).status == "canceled"
        assert client.post(f"/evals/{eval_id}/runs/{run_id}", cast_to=object)["status"] == "canceled"  # type: ignore[index]
    until(lambda: not any(lives(one) for one in (worker, *children)), "it ends", timeout_s=ENDED_WITHIN_S)
    if not deletes:
        run = client.evals.runs.retrieve(run_id, eval_id=eval_id)
        assert (run.status, run.result_counts.passed) == ("canceled", 64)
