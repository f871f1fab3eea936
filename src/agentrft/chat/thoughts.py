"""Reasoning in a turn: how a template marks it, and a turn's text without it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Thought:
    """The marks around a turn's reasoning.

    Attributes:
        opening, closing: without white space.
        between: what a template writes from the end of a thought to the answer, white space included.
    """

    opening: str = "<think>"
    closing: str = "</think>"
    between: str = "\n</think>\n\n"

    def is_opened_by(self, prompt: str) -> bool:
        """Whether a prompt ends where a thought has begun."""
        return prompt.rstrip().endswith(self.opening)

    def split(self, text: str, opened: bool) -> tuple[str | None, str, bool]:
        """A turn's reasoning, what comes after it, and whether it was complete.

        The reasoning is None where there is none, or nothing in it. `opened`: the prompt began it.
        """
        start = text.lstrip()
        if start.startswith(self.opening):
            body = start[len(self.opening) :]
        elif opened:
            body = text
        else:
            return None, text, True
        reasoning, closed, rest = body.partition(self.closing)
        if not closed:
            return body.strip() or None, "", False
        return reasoning.strip() or None, rest, True
