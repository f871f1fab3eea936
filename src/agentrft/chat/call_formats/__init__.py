"""How models write calls: each form reads a turn's text back as content and attempted calls, and never raises.
Which form a model has is found by reading what its own template writes; see `detect`."""

from agentrft.chat.call_formats.base import TurnFormat
from agentrft.chat.call_formats.detection import NOT_JSON, detect
from agentrft.chat.call_formats.hermes_text import Hermes

__all__ = ["NOT_JSON", "Hermes", "TurnFormat", "detect"]
