"""What breaks in graders, by the kinds that the API has for it."""

JUDGES = ("score_model", "label_model", "model")
# Flags of a grader that is tried, and kinds of a step's errors.
KINDS = (
    "formula_parse_error",
    "sample_parse_error",
    "truncated_observation_error",
    "unresponsive_reward_error",
    "invalid_variable_error",
    "other_error",
    "python_grader_server_error",
    "python_grader_runtime_error",
    "model_grader_server_error",
    "model_grader_refusal_error",
    "model_grader_parse_error",
)


def error_kind(fault: str, grader_type: str) -> str:
    """The API's kind of a fault.

    Args:
        fault: a kind of `GraderFailure`, or "missing_sample_key".
        grader_type: of the grader that it is of.
    """
    if fault in ("missing_key", "missing_sample_key"):
        return "invalid_variable_error"
    if fault == "formula":
        return "formula_parse_error"
    if grader_type == "python":
        return "python_grader_server_error" if fault in ("timeout", "crashed") else "python_grader_runtime_error"
    if grader_type in JUDGES:
        of_judges = {"refusal": "model_grader_refusal_error", "bad_answer": "model_grader_parse_error"}
        return of_judges.get(fault, "model_grader_server_error")
    return "other_error"
