"""Where the source before a change comes from: a release on PyPI, a commit of a clone, or a package that is
installed."""

import importlib.util
import io
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from examples.file_planning.change_requests import ChangeRequest

DEFAULT_CACHE = Path.home() / ".cache" / "agentrft-examples"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
COMMIT = re.compile(r"[0-9a-fA-F]{7,64}")
DOWNLOAD_TIMEOUT_S = 300


class NoSource(Exception):
    """A source that cannot be had, and why."""


def source_of(request: ChangeRequest, cache: Path) -> Path:
    """The folder of the project's files before the change; kept in the cache.

    Raises:
        NoSource: it cannot be had.
    """
    if request.commit:
        return commit_source(Path(request.clone), request.commit, cache)
    return release_source(request.package, request.version, cache)


def release_source(package: str, version: str, cache: Path) -> Path:
    """The source distribution of a release, from PyPI by pip.

    Raises:
        NoSource: pip does not get it, or it is no archive that we know.
    """
    if not NAME.fullmatch(package) or not NAME.fullmatch(version):
        raise NoSource(f"{package} {version}: no name of a release")
    target = cache / "sources" / f"{package}-{version}"
    if not target.exists():
        downloads = cache / "downloads" / f"{package}-{version}"
        if not list(downloads.glob("*")):
            _download(f"{package}=={version}", downloads)
        _unpack(next(iter(downloads.glob("*"))), target)
    return _top(target)


def commit_source(clone: Path, commit: str, cache: Path) -> Path:
    """A commit's files, out of a git clone.

    Raises:
        NoSource: there is no such clone or commit.
    """
    if not COMMIT.fullmatch(commit):
        raise NoSource(f"{commit}: no commit")
    target = cache / "sources" / f"{clone.resolve().name}-{commit}"
    if not target.exists():
        command = ["git", "-C", str(clone), "archive", "--format=tar", commit]
        done = subprocess.run(command, capture_output=True, timeout=DOWNLOAD_TIMEOUT_S)
        if done.returncode != 0:
            raise NoSource(f"{clone} {commit}: {done.stderr.decode(errors='replace').strip()}")
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            _unpack_python(archive, target)
    return target


def installed_source(package: str) -> Path | None:
    """The folder of an installed package; None where it is not installed, or is no folder."""
    found = importlib.util.find_spec(package)
    places = list(found.submodule_search_locations or []) if found is not None else []
    return Path(places[0]) if places else None


def _download(requirement: str, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    command += ["--disable-pip-version-check", "--dest", str(folder), requirement]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise NoSource(f"{requirement}: pip took more than {DOWNLOAD_TIMEOUT_S} s") from None
    if done.returncode != 0 or not list(folder.glob("*")):
        last = (done.stderr.strip().splitlines() or ["nothing came"])[-1]
        raise NoSource(f"{requirement}: {last}")


def _unpack(archive: Path, target: Path) -> None:
    try:
        if archive.suffix == ".zip":
            with zipfile.ZipFile(archive) as opened, _complete(target) as part:
                # `extractall` keeps every path below the folder.
                opened.extractall(part, [name for name in opened.namelist() if name.endswith(".py")])
        else:
            with tarfile.open(archive) as opened:
                _unpack_python(opened, target)
    except (tarfile.TarError, zipfile.BadZipFile, OSError) as error:
        raise NoSource(f"{archive.name}: {error}") from None


def _unpack_python(archive: tarfile.TarFile, target: Path) -> None:
    """The Python files alone: no links, nothing outside of the folder."""
    members = [member for member in archive.getmembers() if member.isfile() and member.name.endswith(".py")]
    with _complete(target) as part:
        archive.extractall(part, members, filter="data")


@contextmanager
def _complete(target: Path) -> Iterator[Path]:
    """A folder to fill, which becomes the target when it is full: what broke half way is no source."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="part-") as part:
        yield Path(part) / "files"
        (Path(part) / "files").rename(target)


def _top(target: Path) -> Path:
    """Source distributions have all in one folder."""
    inner = [path for path in target.iterdir() if path.is_dir()]
    return inner[0] if len(inner) == 1 and not list(target.glob("*.py")) else target
