"""What a job says of its model, held against the model's files where they are here."""

from agentrft.job.token_limits import check_given
from agentrft.models import ModelSource, resolve_model
from agentrft.models.catalog import BUILT_IN
from agentrft.models.context import model_context_tokens
from agentrft.models.local_files import json_in, local_folder, template_in
from agentrft.spec import AnyJobSpec
from agentrft.wire import is_object


def check_model_files(spec: AnyJobSpec) -> None:
    """Refuse limits that are more than the model takes, and variables that its chat template does not have. It takes a
    moment, and no torch.

    A model whose files are not here yet is looked at when the job starts; so are files that cannot be read.

    Raises:
        UserError: naming the field, and what the model has.
    """
    folder = local_folder(resolve_model(spec.model))
    if folder is None:
        return
    config = json_in(folder / "config.json")
    if is_object(config):
        check_given(spec.hyperparameters, model_context_tokens(config))
    template = template_in(folder) if spec.chat_template_kwargs else None
    if template is not None:
        # It takes the renderers of all families with it, which most jobs need later and not here.
        from agentrft.chat.variables import check_known

        check_known(template, spec.model, spec.chat_template_kwargs)


def refuse_architecture(source: ModelSource) -> None:
    """Refuse a model that cannot be computed, where its configuration is here. Loads torch, but for built-in models.

    Raises:
        UserError: saying what to take instead.
    """
    folder = None if source.name in BUILT_IN else local_folder(source)
    if folder is None or not (folder / "config.json").is_file():
        return
    from agentrft.models.architecture import inspect_architecture
    from agentrft.models.load import config_in

    inspect_architecture(config_in(folder, source))
