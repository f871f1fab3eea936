"""Files in an object store: whole or not there, whatever is cut off, and the same on every machine."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry as KNOWN_DRIVERS

from agentrft.errors import ArtifactsError, UserError
from agentrft.store import ObjectStore, SharedArtifacts

CHECKPOINT = {"state.pt": b"0123456789", "adapter/weights": b"abc"}
Machine = Callable[[str], SharedArtifacts]


@pytest.fixture(params=["file", "memory", "plain"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    store = tmp_path / "store"
    return {"file": f"file://{store}", "memory": f"memory://{tmp_path.name}/store", "plain": str(store)}[request.param]


@pytest.fixture
def machine(url: str, tmp_path: Path) -> Machine:
    """A machine with a data folder of its own, by its name."""
    return lambda name: SharedArtifacts(tmp_path / name, ObjectStore(url, patience_s=0.0))


def folder(tmp_path: Path, name: str) -> Path:
    return tmp_path / name / "jobs" / "j" / "checkpoints" / "step-00001"


def write(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def read(path: Path) -> dict[str, bytes]:
    return {str(one.relative_to(path)): one.read_bytes() for one in path.rglob("*") if one.is_file()}


def test_a_folder_and_a_file_come_to_another_machine_as_they_were_pushed(machine: Machine, tmp_path: Path) -> None:
    first, second = machine("first"), machine("second")
    first.push(write(folder(tmp_path, "first"), CHECKPOINT))
    rows = write(tmp_path / "first", {"files/file-1": b"rows"}) / "files" / "file-1"
    first.push(rows)
    assert second.fetch(folder(tmp_path, "second")) and read(folder(tmp_path, "second")) == CHECKPOINT
    assert second.fetch(tmp_path / "second/files/file-1")
    assert (tmp_path / "second/files/file-1").read_bytes() == b"rows"
    assert not second.fetch(tmp_path / "second/files/file-2")
    assert list(second.entries(folder(tmp_path, "second").parent)) == ["step-00001"]


def test_only_what_is_missing_or_asked_for_is_fetched(machine: Machine, tmp_path: Path) -> None:
    machine("first").push(write(folder(tmp_path, "first"), CHECKPOINT))
    second, here = machine("second"), folder(tmp_path, "second")
    assert second.fetch(here, only=("adapter",)) and list(read(here)) == ["adapter/weights"]
    place = here / "adapter" / "weights"
    os.utime(place, (1, 1))
    assert second.fetch(here) and read(here) == CHECKPOINT
    assert place.stat().st_mtime == 1


def test_a_copy_of_an_earlier_push_or_one_that_was_cut_off_is_replaced(machine: Machine, tmp_path: Path) -> None:
    first, second, here = machine("first"), machine("second"), folder(tmp_path, "second")
    first.push(write(folder(tmp_path, "first"), CHECKPOINT))
    second.fetch(here)
    changed = {**CHECKPOINT, "state.pt": b"9876543210"}
    first.push(write(folder(tmp_path, "first"), changed))
    assert second.fetch(here) and read(here) == changed
    (here / "state.pt").write_bytes(b"98765")
    assert second.fetch(here) and read(here) == changed
    never_pushed = write(here, {"state.pt": b"0000000000"})
    (tmp_path / "second/.artifacts/jobs/j/checkpoints/step-00001.json").unlink()
    assert second.fetch(never_pushed) and read(here) == changed


def test_what_was_pushed_in_part_is_not_there(machine: Machine, tmp_path: Path) -> None:
    killed = SharedArtifacts(tmp_path / "first", machine("first")._store, guard=_killed)
    with pytest.raises(KeyboardInterrupt):
        killed.push(write(folder(tmp_path, "first"), CHECKPOINT))
    second = machine("second")
    assert not second.fetch(folder(tmp_path, "second"))
    assert second.entries(folder(tmp_path, "second").parent) == {}
    assert not machine("first").fetch(folder(tmp_path, "first")), "nor where it was pushed from"


def test_a_push_that_is_cut_off_leaves_what_was_there(machine: Machine, tmp_path: Path) -> None:
    first = machine("first")
    first.push(write(folder(tmp_path, "first"), CHECKPOINT))
    with pytest.raises(KeyboardInterrupt):
        SharedArtifacts(tmp_path / "first", first._store, guard=_killed).push(
            write(folder(tmp_path, "first"), {"state.pt": b"9876543210"})
        )
    assert machine("second").fetch(folder(tmp_path, "second")) and read(folder(tmp_path, "second")) == CHECKPOINT
    assert first.fetch(folder(tmp_path, "first")) and read(folder(tmp_path, "first")) == CHECKPOINT


def test_what_is_deleted_is_gone_everywhere_with_all_that_was_pushed(machine: Machine, tmp_path: Path) -> None:
    first, second = machine("first"), machine("second")
    first.push(write(folder(tmp_path, "first"), CHECKPOINT))
    first.delete(folder(tmp_path, "first"))
    assert not folder(tmp_path, "first").exists() and not second.fetch(folder(tmp_path, "second"))
    assert first._store.entries("jobs/j/checkpoints") == {}
    first.delete(folder(tmp_path, "first"))


def test_objects_that_are_missing_are_an_error_and_not_a_missing_folder(machine: Machine, tmp_path: Path) -> None:
    first = machine("first")
    first.push(write(folder(tmp_path, "first"), CHECKPOINT))
    manifest = json.loads(first._store.read("jobs/j/checkpoints/step-00001.json") or b"")
    first._store.remove(f"jobs/j/checkpoints/step-00001/{manifest['generation']}/state.pt")
    with pytest.raises(ArtifactsError, match="objects of jobs/j/checkpoints/step-00001 are missing"):
        machine("second").fetch(folder(tmp_path, "second"))


def test_what_was_listed_is_remembered_for_a_while_but_not_past_ones_own_changes(url: str, tmp_path: Path) -> None:
    slow = SharedArtifacts(tmp_path / "first", ObjectStore(url, patience_s=0.0), max_age_s=60)
    here = write(folder(tmp_path, "first"), CHECKPOINT)
    assert slow.entries(here.parent) == {}
    slow.push(here)
    assert list(slow.entries(here.parent)) == ["step-00001"]
    slow.delete(here)
    assert slow.entries(here.parent) == {}


def test_a_url_that_cannot_be_used_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Protocol not known: nix"):
        ObjectStore("nix://bucket", patience_s=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactsError, match="could not be stored"):
        ObjectStore(str(tmp_path / "file"), patience_s=0).write("a", b"")
    assert ObjectStore("memory://user:password@host/path?key=1", patience_s=0).shown == "memory://host/path"


def test_a_driver_that_is_not_installed_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(KNOWN_DRIVERS, "s3", raising=False)
    with pytest.raises(UserError, match="driver is not installed") as refused:
        ObjectStore("s3://bucket/prefix", patience_s=0)
    assert refused.value.remedy == "Run `pip install 'agentrft[s3]'`."


def test_credentials_are_in_the_environment_only_while_the_driver_connects_and_never_in_a_message() -> None:
    seen: list[str | None] = []

    class Driver(MemoryFileSystem):
        protocol = "planted"

        def cat_file(self, *arguments: object, **options: object) -> bytes:
            seen.append(os.environ.get("AWS_SECRET_ACCESS_KEY"))
            if len(seen) == 2:
                raise OSError("signed with planted-secret")
            return b""

    fsspec.register_implementation("planted", Driver, clobber=True)
    store = ObjectStore("planted://a", environment={"AWS_SECRET_ACCESS_KEY": "planted-secret"}, patience_s=0)
    store.read("key")
    assert "AWS_SECRET_ACCESS_KEY" not in os.environ
    with pytest.raises(ArtifactsError) as failed:
        store.read("key")
    assert seen == ["planted-secret", None] and "signed with ***" in str(failed.value)


def _killed() -> None:
    raise KeyboardInterrupt
