"""Dataset rows: JSONL files to samples, and the templates that graders read them with.

`messages` and `tools` of a row are what the agent sees; the whole row is `item`.
"""

from agentrft.data.preferences import Preference, each_preference, has_preferences
from agentrft.data.samples import (
    DataError,
    Judge,
    Sample,
    each_demonstration,
    each_sample,
    find_sample,
    judge_samples,
    load_demonstrations,
    load_samples,
)
from agentrft.data.templates import TemplateError, render_template, template_fields

__all__ = [
    "DataError",
    "Judge",
    "Preference",
    "Sample",
    "TemplateError",
    "each_demonstration",
    "each_preference",
    "each_sample",
    "find_sample",
    "has_preferences",
    "judge_samples",
    "load_demonstrations",
    "load_samples",
    "render_template",
    "template_fields",
]
