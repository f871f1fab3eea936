"""The reward: 1.0 for the right number alone, less 0.1 for every lookup beyond the first. Put your own in its place."""

COST_PER_EXTRA_CALL = 0.1


def grade(sample: dict, item: dict) -> float:
    """Score one rollout: `sample` is what the agent did, `item` the dataset row."""
    if sample["output_text"].strip() != item["answer"]:
        return 0.0
    extra_calls = max(0, len(sample["output_tools"]) - 1)
    return max(0.0, 1.0 - COST_PER_EXTRA_CALL * extra_calls)
