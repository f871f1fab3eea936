"""How hard the notes are, and how much of the code set a search shows."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["now", "denied", "past", "family", "suspected"]


@dataclass(frozen=True)
class Difficulty:
    """One level.

    Attributes:
        n_now: fewest and most diagnoses that the patient has, all to be coded.
        n_not_coded: fewest and most others that the note mentions.
        not_coded: how those are mentioned.
        found_share: share of the names that a keyword search for the name alone finds. The others need other words.
        hits_shown: of a search.
        description_characters: of a hit; the rest is cut.
        sections: whether a note has headed sections with other text around what matters.
    """

    n_now: tuple[int, int]
    n_not_coded: tuple[int, int]
    not_coded: tuple[Kind, ...]
    found_share: float
    hits_shown: int
    description_characters: int
    sections: bool


DIFFICULTIES = {
    "small": Difficulty((2, 2), (1, 1), ("denied", "past", "family"), 0.9, 3, 40, sections=False),
    "large": Difficulty((3, 8), (2, 5), ("denied", "past", "family", "suspected"), 0.6, 8, 100, sections=True),
}
