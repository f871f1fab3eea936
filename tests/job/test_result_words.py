"""What a job that ended says of its result."""

from pathlib import Path
from typing import Any

import pytest

from agentrft.job.result_words import result_words
from agentrft.store import JobStore


@pytest.mark.parametrize(
    ("warm_start", "best_step", "said"),
    [
        (None, 0, "step 0, the model as it was:"),
        ({"training_file": "x.jsonl"}, 0, "step 0, the model as the warm start left it:"),
        ({"training_file": "x.jsonl"}, 2, "step 2 of 3: on the validation samples"),
        (None, None, "step 3, the last one: there are no validation rows"),
        (None, 3, "step 3, the last one: no validated step before it"),
    ],
)
def test_the_result_is_called_what_it_is(
    tmp_path: Path, warm_start: dict[str, Any] | None, best_step: int | None, said: str
) -> None:
    with JobStore(tmp_path) as store:
        job_id = store.create_job({"job": {"warm_start": warm_start}}, model="tiny", seed=0)
        store.set_total_steps(job_id, 3)
        if best_step is not None:
            store.set_best_step(job_id, best_step)
        assert f"The result is {said}" in result_words(store.get_job(job_id))
