"""What a job says of its model, held against the model's files where they are here."""

from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download

from agentrft import wire
from agentrft.job.token_limits import check_given
from agentrft.models import ModelSource, resolve_model
from agentrft.models.catalog import BUILT_IN
from agentrft.models.context import model_context_tokens
from agentrft.spec import JobSpec
from agentrft.wire import WireError, is_list, is_object


def check_model_files(spec: JobSpec) -> None:
    """Refuse limits that are more than the model takes, and variables that its chat template does not have. It takes a
    moment, and no torch.

    A model whose files are not here yet is looked at when the job starts; so are files that cannot be read.

    Raises:
        UserError: naming the field, and what the model has.
    """
    folder = _folder(resolve_model(spec.model))
    if folder is None:
        return
    config = _json(folder / "config.json")
    if is_object(config):
        check_given(spec.hyperparameters, model_context_tokens(config))
    template = _template(folder) if spec.chat_template_kwargs else None
    if template is not None:
        # It takes the renderers of all families with it, which most jobs need later and not here.
        from agentrft.chat.variables import check_known

        check_known(template, spec.model, spec.chat_template_kwargs)


def refuse_architecture(source: ModelSource) -> None:
    """Refuse a model that cannot be computed, where its configuration is here. Loads torch, but for built-in models.

    Raises:
        UserError: saying what to take instead.
    """
    folder = None if source.name in BUILT_IN else _folder(source)
    if folder is None or not (folder / "config.json").is_file():
        return
    from agentrft.models.architecture import inspect_architecture
    from agentrft.models.load import config_in

    inspect_architecture(config_in(folder, source))


def _folder(source: ModelSource) -> Path | None:
    if source.is_local:
        return Path(source.path_or_id)
    try:
        return Path(snapshot_download(source.path_or_id, local_files_only=True))
    except (OSError, ValueError):
        return None


def _template(folder: Path) -> str | None:
    """The template that conversations with tools are rendered with, as the tokenizer would find it."""
    own = folder / "chat_template.jinja"
    if own.is_file():
        return own.read_text(encoding="utf-8", errors="replace")
    config = _json(folder / "tokenizer_config.json")
    given: Any = config.get("chat_template") if is_object(config) else None
    if is_list(given):
        named = {one.get("name"): one.get("template") for one in given if is_object(one)}
        given = named.get("tool_use") or named.get("default")
    return given if isinstance(given, str) else None


def _json(path: Path) -> Any:
    try:
        return wire.parse(path.read_bytes())
    except (OSError, WireError):
        return None
