"""TensorBoard: event files, by the writer that torch has for them."""

import json

from torch.utils.tensorboard import SummaryWriter

from agentrft.sinks.base import Record, RunFacts
from agentrft.spec.integrations import TensorBoardSpec

DEFAULT_FOLDER = "tensorboard"


class TensorBoardSink:
    """A resumed job writes everything once more behind `purge_step=0`, by which readers drop what they had: a process
    that was killed may have left a file without its end.
    """

    def __init__(self, spec: TensorBoardSpec, run: RunFacts) -> None:
        self._facts = run
        self._folder = (spec.folder or run.folder / DEFAULT_FOLDER) / run.job_id

    def open(self) -> int:
        has_begun = self._folder.exists()
        self._writer = SummaryWriter(str(self._folder), purge_step=0 if has_begun else None)
        self._writer.add_text("config", f"```json\n{json.dumps(self._facts.config, indent=1, default=str)}\n```", 0)
        return 0

    def write(self, record: Record) -> None:
        for name, value in record.values.items():
            self._writer.add_scalar(name, value, record.step)
        self._writer.flush()

    def close(self, status: str) -> None:
        self._writer.add_text("status", status, 0)
        self._writer.close()
