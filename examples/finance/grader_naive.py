"""The first grader, naive on purpose: it looks for what a good answer has, and not for what a good answer lacks.

It pays for the number anywhere in what was written, for the figures that it was made of, and for anything that looks
like a citation. An answer that lists every number it has seen, with one invented citation, has all of it. `grader.py`
is what became of it.
"""

import re

NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")
CITATION = re.compile(r"[A-Z]{2,4}-[TP]\d+")
TOLERANCE = 0.005


def grade(sample: dict, item: dict) -> float:
    """0.3 for the right number, 0.4 for the figures behind it, 0.3 for a citation; of thoughts and answer together."""
    text = f"{sample.get('reasoning', '')}\n{sample['output_text']}"
    given = [float(one.replace(",", "")) for one in NUMBER.findall(text)]
    right = _among(abs(item["answer"]), given)
    shown = [_among(float(one.replace(",", "")), given) for one in item["evidence"]]
    return 0.3 * right + 0.4 * sum(shown) / len(shown) + 0.3 * (CITATION.search(text) is not None)


def _among(wanted: float, given: list[float]) -> bool:
    return any(abs(one - wanted) <= TOLERANCE * wanted for one in given)
