"""Artifacts: files and folders of a data folder, kept in an object store, where other machines find them.

The data folder is the working copy. What was pushed is there whole or not at all: objects go below a name that is
used once, and then the manifest, which says what belongs to it, is written in one piece.

    jobs/ftjob-1/checkpoints/step-00007/5f0c…/state.pt    objects
    jobs/ftjob-1/checkpoints/step-00007.json              the manifest: generation, names, sizes
    .artifacts/jobs/ftjob-1/checkpoints/step-00007.json   in the data folder: whose copy lies there
"""

import asyncio
import json
import logging
import secrets
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

from agentrft.errors import ArtifactsError
from agentrft.store.files import replace_file
from agentrft.store.object_store import ObjectStore

logger = logging.getLogger(__name__)

T = TypeVar("T")

SUFFIX = ".json"
COPIES = ".artifacts"
MARKER = "agentrft.json"
# A manifest that was read may be replaced while its objects are fetched: once by another worker, rarely twice.
FETCHES = 3

Manifest = dict[str, Any]


class Artifacts:
    """None are kept elsewhere: what lies in the data folder is all there is."""

    async def aside(self, work: Callable[..., T], *arguments: Any) -> T:
        """Run what pushes, fetches or deletes; beside the event loop where it waits for a network."""
        return work(*arguments)

    def push(self, path: Path) -> None:
        """Keep a file or folder; when this returns it is whole in the store."""

    def fetch(self, path: Path, *, only: Collection[str] = ()) -> bool:
        """Have a file or folder here as it was pushed last; whether there is one.

        Args:
            only: of a folder only these of its entries.
        """
        return path.exists()

    def copy(self, path: Path, place: Path) -> bool:
        """Have a copy of a file as it was pushed last, and leave alone what lies at `path`; whether there is one."""
        if not path.is_file():
            return False
        shutil.copyfile(path, place)
        return True

    def delete(self, path: Path) -> None:
        """Delete a file or folder in the store, then here."""
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def entries(self, folder: Path) -> dict[str, float]:
        """What is kept of a folder: names, and since when, in seconds since the epoch."""
        found = {}
        for path in folder.glob("[!.]*"):
            try:
                found[path.name] = path.stat().st_mtime
            except FileNotFoundError:
                continue
        return found


class SharedArtifacts(Artifacts):
    """Kept in an object store. Safe across threads; for processes as the store is.

    Args:
        root: the data folder, which keys are relative to.
        max_age_s: how old what was read of manifests and listings may be.
        guard: called before something becomes visible; does not return where this process may not change it any more.

    All methods raise ArtifactsError where the store does not answer in time.
    """

    def __init__(
        self, root: Path, store: ObjectStore, *, max_age_s: float = 0.0, guard: Callable[[], object] | None = None
    ) -> None:
        self._root = root
        self._store = store
        self._max_age_s = max_age_s
        self._guard = guard
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._read: dict[str, tuple[float, Any]] = {}

    async def aside(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.to_thread(work, *arguments)

    def push(self, path: Path) -> None:
        key = self._key(path)
        files = {name: (path / name).stat().st_size for name in _names(path)}
        manifest = {"generation": secrets.token_hex(8), "files": files}
        before = self._manifest(key, max_age_s=0)
        # First the note that this is the copy here: who reads the manifest finds it, and fetches nothing.
        self._note(key, manifest)
        for name in files:
            self._store.put(path / name, _object(key, manifest, name))
        if self._guard is not None:
            self._guard()
        self._store.write(key + SUFFIX, json.dumps(manifest).encode())
        self._remember(key, manifest)
        if before is not None:
            self._tidy(f"{key}/{before['generation']}")

    def fetch(self, path: Path, *, only: Collection[str] = ()) -> bool:
        key = self._key(path)
        with self._locks[key]:
            return self._with_manifest(key, lambda manifest: self._fetch(path, key, manifest, only))

    def copy(self, path: Path, place: Path) -> bool:
        key = self._key(path)
        return self._with_manifest(
            key, lambda manifest: self._get(key, manifest, ".", place, int(manifest["files"]["."]))
        )

    def delete(self, path: Path) -> None:
        key = self._key(path)
        # Without its manifest nobody takes the rest for whole.
        self._store.remove(key + SUFFIX)
        self._remember(key, None)
        self._store.remove(key, below=True)
        self.forget(path)

    def forget(self, path: Path) -> None:
        """Remove the copy that is here."""
        self._copy(self._key(path)).unlink(missing_ok=True)
        super().delete(path)

    def entries(self, folder: Path) -> dict[str, float]:
        key = self._key(folder) + "/"
        found = self._remembered(key, self._max_age_s)
        if found is None:
            found = self._store.entries(key.rstrip("/"))
            found = {name.removesuffix(SUFFIX): since for name, since in found.items() if name.endswith(SUFFIX)}
            self._remember(key, found)
        return found

    # --- the store as a whole

    def is_new(self) -> bool:
        """Whether no server has used the store yet."""
        return self._store.read(MARKER) is None

    def mark(self) -> None:
        """Note that a server uses the store; with every start, which shows that it can be written."""
        self._store.write(MARKER, json.dumps({"started_at": time.time()}).encode())

    def probe(self) -> None:
        """See that objects can be written and deleted, without a trace."""
        key = f"probe-{secrets.token_hex(4)}"
        self._store.write(key, b"")
        self._store.remove(key)

    # --- inside

    def _fetch(self, path: Path, key: str, manifest: Manifest, only: Collection[str]) -> None:
        """Raises FileNotFoundError where the manifest is not the store's any more."""
        if self._noted(key) != manifest:
            self.forget(path)
            self._note(key, manifest)
        for name, size in manifest["files"].items():
            place = path / name
            if (only and name.partition("/")[0] not in only) or _has_size(place, size):
                continue
            self._get(key, manifest, name, place, size)

    def _with_manifest(self, key: str, work: Callable[[Manifest], None]) -> bool:
        """Do something by the newest manifest, again where it was replaced meanwhile; whether there is one."""
        for _ in range(FETCHES):
            manifest = self._manifest(key, max_age_s=self._max_age_s)
            if manifest is None:
                return False
            try:
                work(manifest)
                return True
            except FileNotFoundError:
                self._read.clear()
        raise ArtifactsError(
            f"{self._store.shown}: objects of {key} are missing.", "Restore the bucket, or delete what belongs to it."
        )

    def _get(self, key: str, manifest: Manifest, name: str, place: Path, size: int) -> None:
        """Have one object whole at a place; raises as `_fetch`."""
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = place.with_name(f".{place.name}-{secrets.token_hex(4)}.partial")
        try:
            self._store.get(_object(key, manifest, name), partial)
            if not _has_size(partial, size):
                raise ArtifactsError(
                    f"{self._store.shown}: {key}/{name} has not the {size} bytes that were stored.",
                    "Restore the bucket, or delete what belongs to it.",
                )
            partial.replace(place)
        finally:
            partial.unlink(missing_ok=True)

    def _key(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    def _manifest(self, key: str, *, max_age_s: float) -> Manifest | None:
        """None where nothing whole is stored."""
        found = self._remembered(key, max_age_s)
        if found is None:
            found = _parsed(self._store.read(key + SUFFIX))
            if found is not None:
                self._read[key] = time.monotonic(), found
        return found

    def _remembered(self, key: str, max_age_s: float) -> Any:
        read_at, found = self._read.get(key, (0.0, None))
        return found if max_age_s and time.monotonic() - read_at < max_age_s else None

    def _remember(self, key: str, found: Any) -> None:
        self._read[key] = time.monotonic(), found
        self._read.pop(key.rpartition("/")[0] + "/", None)

    def _copy(self, key: str) -> Path:
        return self._root / COPIES / (key + SUFFIX)

    def _noted(self, key: str) -> Manifest | None:
        path = self._copy(key)
        return _parsed(path.read_bytes()) if path.is_file() else None

    def _note(self, key: str, manifest: Manifest) -> None:
        path = self._copy(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, json.dumps(manifest).encode())

    def _tidy(self, key: str) -> None:
        """Nobody reads it any more, so it may stay where it cannot be removed."""
        try:
            self._store.remove(key, below=True)
        except ArtifactsError as error:
            logger.warning("%s", error.cause)


def _names(path: Path) -> list[str]:
    """Files of a folder, relative to it; a file is `path` with nothing behind it."""
    if not path.is_dir():
        return ["."]
    return sorted(one.relative_to(path).as_posix() for one in path.rglob("*") if one.is_file())


def _object(key: str, manifest: Manifest, name: str) -> str:
    return f"{key}/{manifest['generation']}/{'content' if name == '.' else name}"


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False


def _parsed(content: bytes | None) -> Manifest | None:
    """None for one that was cut off, which is possible where the store is a folder."""
    try:
        return None if content is None else json.loads(content)
    except ValueError:
        return None
