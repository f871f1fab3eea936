"""The templates of pages and of the report, and how numbers are written in them."""

import time
from functools import cache
from pathlib import Path

import jinja2

from agentrft.dashboard import guide

TEMPLATES = Path(__file__).parent / "templates"
# What stands for a value that is not there: an en dash.
NOTHING = "\u2013"


@cache
def environment() -> jinja2.Environment:
    """Made once; templates are found by their names."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "number": lambda value: NOTHING if value is None else guide.number(float(value)),
        "share": lambda value: NOTHING if value is None else guide.share(float(value)),
        "seconds": lambda value: NOTHING if value is None else guide.seconds(float(value)),
        "hours": lambda value: guide.seconds(3600 * float(value)),
        "clock": lambda value: time.strftime("%Y-%m-%d %H:%M", time.gmtime(value)),
        "colour": colour,
    }
    return environment


def colour(level: float | None) -> str:
    """Of a reward between the lowest (0) and the highest (1), for `background`; told apart by lightness, too."""
    if level is None:
        return "var(--missing)"
    return f"color-mix(in oklab, var(--high) {round(level * 100)}%, var(--low))"
