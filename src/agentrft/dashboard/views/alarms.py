"""What alarms said, without what a page has beside it."""

from agentrft.store import Event


def alarm_text(event: Event) -> str:
    """An alarm's message without its step and the ids of rollouts, which a page shows as links."""
    text = event.message.removeprefix(f"step {event.data.get('step')}: ")
    return text.removesuffix(" Read " + ", ".join(event.data.get("trace_ids") or ()) + ".")
