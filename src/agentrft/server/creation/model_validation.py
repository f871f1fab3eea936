"""What a job says of its model, looked at as the job will: in the process that validates, which the API's is not."""

from agentrft.errors import UserError
from agentrft.job.model_files import check_model_files, refuse_architecture
from agentrft.models import resolve_model
from agentrft.server.creation.validation import Problem
from agentrft.spec import AnyJobSpec


def problem_of_model(spec: AnyJobSpec) -> Problem | None:
    """Limits that are more than the model takes, variables that its chat template does not have, or an architecture
    that is not computed here. A model that is not there is for the worker to say, which may be elsewhere.
    """
    try:
        source = resolve_model(spec.model)
    except UserError:
        return None
    try:
        check_model_files(spec)
    except UserError as error:
        is_variable = "chat_template_kwargs" in error.cause
        code = "invalid_chat_template_kwargs" if is_variable else "invalid_hyperparameters"
        param = "chat_template_kwargs" if is_variable else f"method.{spec.method}.hyperparameters"
        return Problem(code, param, f"{error.cause} {error.remedy}")
    try:
        refuse_architecture(source)
    except UserError as error:
        return Problem("invalid_model", "model", f"{error.cause} {error.remedy}")
    return None
