"""What a run has graded, kept row by row as output items."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from agentrft.errors import Interrupted
from agentrft.graders.criteria import Criterion, CriterionResult, failed_results
from agentrft.rollout.record import Rollout
from agentrft.server.evals.rows import EvalRow
from agentrft.server.records.evals import EvalRecords, ItemRow, ItemStatus
from agentrft.store import PendingRollout

PAGE = 500


class KeptItems:
    """The output items of one run: a `RolloutStore`, which also hears what each criterion said.

    Args:
        owner: the name under which the worker has the run's lease.
        n_prompts: how many messages of a rollout are its prompt, by row.
    """

    def __init__(
        self,
        records: EvalRecords,
        run_id: str,
        owner: str,
        criteria: Sequence[Criterion],
        rows: Sequence[EvalRow],
        n_prompts: Sequence[int],
    ) -> None:
        self._records = records
        self._run_id = run_id
        self._owner = owner
        self._criteria = criteria
        self._rows = {row.row_id: (row, n_prompt) for row, n_prompt in zip(rows, n_prompts, strict=True)}
        self._results: dict[str, list[CriterionResult]] = {}
        self._rewards: dict[str, float | None] = {}

    def heard(self, trace_id: str, results: list[CriterionResult]) -> None:
        """What the criteria said of a rollout that is kept next."""
        self._results[trace_id] = results

    def pending_rollouts(self, job_id: str, phase: str, step: int) -> dict[str, dict[str, Any]]:
        """What an earlier worker kept, but those whose infrastructure failed: they are tried again."""
        found: dict[str, dict[str, Any]] = {}
        for item in every_item(self._records, self._run_id):
            record = item.payload["record"]
            if record["outcome"] != "infra_failed":
                found[f"{record['sample_id']}/{record['index']}"] = record
                self._rewards[record["trace_id"]] = record["reward"]
                self._results[record["trace_id"]] = [CriterionResult(**one) for one in item.payload["results"]]
        return found

    def add_pending_rollout(self, job_id: str, phase: str, step: int, key: str, payload: dict[str, Any]) -> None:
        self.put([payload])

    def add_pending_rollouts(self, job_id: str, rollouts: Sequence[PendingRollout]) -> None:
        self.put([rollout.payload for rollout in rollouts])

    def put(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Keep rollouts, as `Rollout.as_dict()`.

        Raises:
            Interrupted: the run was canceled, or another worker has it.
        """
        items = [self._item(record) for record in records]
        if not self._records.put_items(self._run_id, self._owner, items):
            raise Interrupted("the run has ended, or another worker has it")
        self._rewards |= {record["trace_id"]: record["reward"] for record in records}

    def settle(self, rollouts: Sequence[Rollout]) -> None:
        """Keep what was not kept yet, or has another reward now that all are known."""
        changed = [
            rollout.as_dict()
            for rollout in rollouts
            if rollout.trace_id not in self._rewards or self._rewards[rollout.trace_id] != rollout.reward
        ]
        for start in range(0, len(changed), PAGE):
            self.put(changed[start : start + PAGE])

    def _item(self, record: Mapping[str, Any]) -> ItemRow:
        row, n_prompt = self._rows[record["sample_id"]]
        results = self._results.get(record["trace_id"])
        if record["outcome"] == "model_failed" and record["grade"] is None:
            results = failed_results(self._criteria, record["failure_kind"])
        results = results or []
        payload = {
            "record": dict(record),
            "item": row.item,
            "n_prompt": n_prompt,
            "results": [asdict(result) for result in results],
        }
        return ItemRow(row.line, _status(record, results), payload)


def every_item(records: EvalRecords, run_id: str) -> Iterator[ItemRow]:
    """A run's output items by line; few are in memory at once."""
    line, more = None, True
    while more:
        items, more = records.items_of(run_id, after=line, limit=PAGE, oldest_first=True)
        for item in items:
            line = item.line
            yield item


def _status(record: Mapping[str, Any], results: Sequence[CriterionResult]) -> ItemStatus:
    if record["outcome"] == "infra_failed" or not results or any(one.score is None for one in results):
        return "error"
    return "pass" if all(result.passed for result in results) else "fail"
