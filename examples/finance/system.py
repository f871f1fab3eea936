"""Finance questions, to be run and measured beside the other systems."""

from examples.common.system import Measure, System
from examples.finance.make_data import write_data
from examples.finance.measures import measures

SYSTEM = System(
    name="finance",
    key="finance",
    title="Finance: questions over filings, with sources",
    write_data=write_data,
    measures=measures,
    told=(
        Measure("score", "score", "higher"),
        Measure("answer_right", "right number", "higher"),
        Measure("valid_citation", "valid citation", "higher"),
        Measure("missing_citation", "missing citation", "lower"),
        Measure("invalid_citation", "invalid citation", "lower"),
        Measure("hallucinated_numbers", "hallucinated numbers a rollout", "lower"),
        Measure("turns", "turns", "lower"),
        Measure("calls", "tool calls", "lower"),
        Measure("tokens", "sampled tokens", "lower"),
    ),
)
