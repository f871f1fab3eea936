"""File planning, to be run and measured beside the other systems."""

from examples.common.system import Measure, System
from examples.file_planning.make_data import write_data
from examples.file_planning.measures import measures

SYSTEM = System(
    name="file_planning",
    key="file_planning",
    title="File planning: which files a change request asks for",
    write_data=write_data,
    measures=measures,
    told=(
        Measure("file_f1", "file F1", "higher"),
        Measure("turns", "turns", "lower"),
        Measure("back_and_forths", "turns that call tools", "lower"),
        Measure("calls", "tool calls", "lower"),
        Measure("parallel_turn_share", "of these, with parallel calls", "higher"),
        Measure("precision", "precision", "higher"),
        Measure("recall", "recall", "higher"),
        Measure("answers_seen", "answered files that a result had shown", "higher"),
    ),
)
