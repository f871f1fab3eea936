"""The holdout: F1 of the exact codes, without credit for close ones and without prices. It trains nothing."""


def grade(sample: dict, item: dict) -> float:
    """A score in [0, 1]."""
    given, right = set(sample["output_text"].upper().split()), set(item["answer"])
    return 2 * len(given & right) / (len(given) + len(right))
