"""MLflow. A run has the job's id as a tag, by which a resumed job finds it."""

import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient

from agentrft.sinks.base import Record, RunFacts
from agentrft.spec.integrations import MlflowSpec

JOB, RECORDS = "agentrft.job_id", "agentrft.records"
STATUSES = {"succeeded": "FINISHED", "failed": "FAILED", "interrupted": "KILLED", "paused": "KILLED"}
# What MLflow takes in a name, and how much of a parameter.
FORBIDDEN = re.compile(r"[^\w.\- /:]")
LONGEST_NAME, LONGEST_VALUE, PARAMS_AT_ONCE = 250, 500, 100


class MlflowSink:
    """How many records a run has is a tag, which is written with each of them."""

    def __init__(self, spec: MlflowSpec, run: RunFacts) -> None:
        self._spec = spec
        self._facts = run
        self._client = MlflowClient(tracking_uri=spec.tracking_uri)

    def open(self) -> int:
        experiment_id = self._experiment()
        found = self._client.search_runs([experiment_id], f"tags.`{JOB}` = '{self._facts.job_id}'", max_results=1)
        if found:
            run = found[0]
            self._client.update_run(run.info.run_id, status="RUNNING")
        else:
            tags = {JOB: self._facts.job_id, **{tag: "true" for tag in self._spec.tags or ()}}
            run = self._client.create_run(experiment_id, tags=tags, run_name=self._spec.name or self._facts.job_id)
        self._run_id = run.info.run_id
        self._add_params(run.data.params)
        number = int(run.data.tags.get(RECORDS, 0))
        # A process that was killed may have left a part of this one, without the tag.
        self._doubtful = number if found else None
        return number

    def write(self, record: Record) -> None:
        now_ms = int(time.time() * 1000)
        metrics = [Metric(_name(name), value, now_ms, record.step) for name, value in record.values.items()]
        if record.number == self._doubtful:
            metrics = [metric for metric in metrics if not self._has(metric)]
        self._client.log_batch(self._run_id, metrics=metrics, tags=[RunTag(RECORDS, str(record.number + 1))])

    def close(self, status: str) -> None:
        self._client.set_tag(self._run_id, "agentrft.status", status)
        self._client.set_terminated(self._run_id, STATUSES.get(status, "KILLED"))

    def _experiment(self) -> str:
        name = self._spec.experiment
        known = self._client.get_experiment_by_name(name)
        return known.experiment_id if known is not None else self._client.create_experiment(name)

    def _add_params(self, known: Mapping[str, str]) -> None:
        """Those that the run lacks: of a parameter that it has the value cannot change."""
        params = [Param(name, value) for name, value in _params(self._facts.config) if name not in known]
        for start in range(0, len(params), PARAMS_AT_ONCE):
            self._client.log_batch(self._run_id, params=params[start : start + PARAMS_AT_ONCE])

    def _has(self, metric: Metric) -> bool:
        return any(one.step == metric.step for one in self._client.get_metric_history(self._run_id, metric.key))


def _name(name: str) -> str:
    return FORBIDDEN.sub("_", name)[:LONGEST_NAME]


def _params(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """The single values of the job at any depth of mappings; lists and long texts are no parameters."""
    for name, value in config.items():
        where = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from _params(value, f"{where}.")
        elif value is not None and not isinstance(value, list | tuple) and len(str(value)) <= LONGEST_VALUE:
            yield _name(where), str(value)
