"""Why the model changed: behaviours by how much the updates paid for them, suspects on top."""

from typing import Any

from agentrft.dashboard.charts import Chart
from agentrft.dashboard.runs import JobData
from agentrft.dashboard.views.alarms import alarm_text
from agentrft.report.why import Finding, Findings
from agentrft.report.why.words import doubt, sentence

COURSE = Chart(
    "course", "Share and rewards by step", "How many show it, and the mean reward with and without it.", form=".2~f"
)
# Alarms that a behaviour spread while the rest got worse.
SHIFT = "behaviour_shift"
KINDS = {
    "calls": "its calls",
    "arguments": "their arguments",
    "source": "where the answer came from",
    "group": "what it has in common with its group",
    "form": "the answer's form",
    "phrase": "phrases",
    "failure": "how it failed",
    "amount": "how much",
}


def why(job: JobData, behaviour: str = "") -> dict[str, Any]:
    """The page.

    Args:
        behaviour: the one that is shown whole.
    """
    found, missing = job.findings
    chosen = next((one for one in found.all if behaviour in (one.name, *one.also, *one.along)), None)
    return {
        "rang": _rang(job),
        "suspects": [_line(one, found) for one in found.suspects],
        "unproven": [_line(one, found) for one in found.unproven],
        "reinforced": [_line(one, found) for one in found.reinforced],
        "unlearned": [_line(one, found) for one in found.unlearned],
        "others": [_line(one, found) for one in found.others],
        "looked_at": found.looked_at,
        "groups": found.groups,
        "early": found.early,
        "late": found.late,
        "kinds": KINDS,
        "chosen": None if chosen is None else _whole(job, chosen, found),
        "steps_missing": missing,
    }


def _rang(job: JobData) -> list[dict[str, Any]]:
    """The alarms that named a behaviour while the job trained: they look at the last few steps alone, and so see a
    habit whose opposite has died out since."""
    return [
        {"step": event.data.get("step"), "text": alarm_text(event), "rollouts": event.data.get("trace_ids") or []}
        for event in job.runs.store.events(job.job_id)
        if str(event.data.get("alarm", "")).startswith(SHIFT)
    ]


def _line(one: Finding, found: Findings) -> dict[str, Any]:
    return {
        **one.as_dict(),
        "text": sentence(one, found),
        "doubt": doubt(one, one.crowding) if one.crowding and one in found.unproven else "",
    }


def _whole(job: JobData, one: Finding, found: Findings) -> dict[str, Any]:
    rows = job.rollouts.some([*one.before, *one.after])
    return {
        **_line(one, found),
        "course": [
            {"step": step, "series": name, "value": value}
            for step, *values in one.by_step
            for name, value in zip(("share", "reward with it", "reward without it"), values, strict=True)
            if value is not None
        ],
        "rollouts_before": [rows[name] for name in one.before if name in rows],
        "rollouts_after": [rows[name] for name in one.after if name in rows],
    }
