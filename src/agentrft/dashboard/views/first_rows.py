"""A few rows of a job's data, to show what it is about and to begin a conversation from."""

from itertools import islice
from pathlib import Path

from agentrft.dashboard.runs import JobData
from agentrft.data import Sample, each_sample
from agentrft.errors import UserError
from agentrft.store.layout import DATA_FILES, TRAIN, VALIDATION

SAMPLES = 20


def first_samples(job: JobData) -> list[Sample]:
    """Of validation where there is any; none where the file is gone."""
    for phase in (VALIDATION, TRAIN):
        path = job.row.setting(DATA_FILES[phase])
        if path is not None:
            try:
                return list(islice(each_sample(Path(path)), SAMPLES))
            except (UserError, OSError):
                continue
    return []
