"""What is read of a model's folder without torch."""

from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download

from agentrft import wire
from agentrft.models.catalog import ModelSource, resolve_model
from agentrft.template_variables import template_variables
from agentrft.wire import WireError, is_list, is_object


def known_variables(model: str) -> list[str]:
    """The variables of the chat template of a model, named as a job names it; none where it is not here yet."""
    folder = local_folder(resolve_model(model))
    template = None if folder is None else template_in(folder)
    return [] if template is None else template_variables(template)


def local_folder(source: ModelSource) -> Path | None:
    """Where a model's files are on this machine; None where they are not."""
    if source.is_local:
        return Path(source.path_or_id)
    try:
        return Path(snapshot_download(source.path_or_id, local_files_only=True))
    except (OSError, ValueError):
        return None


def template_in(folder: Path) -> str | None:
    """The template that conversations with tools are rendered with, as the tokenizer would find it."""
    own = folder / "chat_template.jinja"
    if own.is_file():
        return own.read_text(encoding="utf-8", errors="replace")
    config = json_in(folder / "tokenizer_config.json")
    given: Any = config.get("chat_template") if is_object(config) else None
    if is_list(given):
        named = {one.get("name"): one.get("template") for one in given if is_object(one)}
        given = named.get("tool_use") or named.get("default")
    return given if isinstance(given, str) else None


def json_in(path: Path) -> Any:
    """What a file says; None where it cannot be read."""
    try:
        return wire.parse(path.read_bytes())
    except (OSError, WireError):
        return None
