"""The SDK's client, with the short shape of a job as direct arguments.

from agentrft import OpenAI
client = OpenAI(base_url="http://127.0.0.1:8321/v1", api_key="…")
client.fine_tuning.jobs.create(model="smollm2-135m", training_file=file.id, method="rft", rft={"tools": […], …})
"""

from functools import cached_property
from typing import Any

import openai
from openai.resources.fine_tuning import FineTuning
from openai.resources.fine_tuning.jobs import Jobs


class _Jobs(Jobs):
    def create(self, *, rft: Any = None, **given: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """As the SDK's; with `method="rft"` the job is in `rft`."""
        if rft is not None:
            given["extra_body"] = {**(given.get("extra_body") or {}), "rft": rft}
        return super().create(**given)


class _FineTuning(FineTuning):
    @cached_property
    def jobs(self) -> _Jobs:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _Jobs(self._client)


class OpenAI(openai.OpenAI):
    """The SDK's own client, where `fine_tuning.jobs.create` also takes the short shape of a job.

    With `method="rft"` the job is in `rft`: `tools`, `grader`, `hyperparameters` and what else a method has. All other
    arguments, and all other calls, are the SDK's. It takes the extra `server`.
    """

    @cached_property
    def fine_tuning(self) -> _FineTuning:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _FineTuning(self)
