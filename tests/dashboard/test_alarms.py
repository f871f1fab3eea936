"""What pages show of an alarm."""

import pytest

from agentrft.dashboard.views.alarms import alarm_text
from agentrft.store import Event


@pytest.mark.parametrize("trace_ids", [["trace_a", "trace_b"], []])
def test_an_alarms_text_leaves_out_its_step_and_what_is_shown_as_links(trace_ids: list[str]) -> None:
    read = " Read " + ", ".join(trace_ids) + "." if trace_ids else ""
    message = f"step 12: 90% of the rollouts can. Read some.{read}"
    event = Event(0.0, "warning", message, {"alarm": "behaviour_shift:x", "step": 12, "trace_ids": trace_ids})
    assert alarm_text(event) == "90% of the rollouts can. Read some."
