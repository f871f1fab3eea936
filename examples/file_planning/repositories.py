"""Repositories as the agent sees them: the Python files of a package, all of them or one manageable folder."""

import re
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

# Folders that are about the code and not of it.
LEFT_OUT = {"tests", "test", "testing", "docs", "examples", "benchmarks", "__pycache__", "_vendor", "vendor"}
MAX_FILE_BYTES = 300_000
WORD = re.compile(r"[A-Za-z0-9_]+")


@dataclass(frozen=True)
class Repository:
    """The files that make one repository.

    Attributes:
        name: of its folder, unique.
        package: whose source it is; no package is in two files of data.
        source: the folder that the files are in.
        files: their paths in it, in order. Those of the package's other files are not in the repository.
    """

    name: str
    package: str
    source: Path
    files: tuple[str, ...]

    def texts(self) -> dict[str, str]:
        """What each file holds."""
        return {file: (self.source / file).read_text(encoding="utf-8", errors="replace") for file in self.files}

    def copy_to(self, folder: Path) -> None:
        """Write the files into a folder of the repository's name, unless it is there."""
        target = folder / self.name
        if target.exists():
            return
        for file in self.files:
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.source / file, target / file)


def whole(name: str, package: str, source: Path) -> Repository:
    """All of a package's files as one repository."""
    return Repository(name, package, source, tuple(sorted(_python_files(source))))


def folders(name: str, package: str, source: Path, *, least: int, most: int) -> Iterator[Repository]:
    """Each folder of a package as a repository of its own, without what is below it; those of too many files are cut
    into parts of neighbours by name."""
    by_folder: dict[str, list[str]] = defaultdict(list)
    for file in sorted(_python_files(source)):
        folder, _, base = file.rpartition("/")
        by_folder[folder].append(base)
    for folder, files in sorted(by_folder.items()):
        n_parts = -(-len(files) // most)
        for part in range(n_parts):
            chosen = files[part * len(files) // n_parts : (part + 1) * len(files) // n_parts]
            if len(chosen) >= least:
                number = f"-{part + 1}" if n_parts > 1 else ""
                place = f"-{folder.replace('/', '.')}" if folder else ""
                yield Repository(f"{name}{place}{number}", package, source / folder, tuple(chosen))


def files_by_word(texts: dict[str, str]) -> dict[str, list[str]]:
    """For each word the files that `grep -rlw WORD .` lists, in that order."""
    found: dict[str, list[str]] = defaultdict(list)
    for file, text in sorted(texts.items()):
        for word in set(WORD.findall(text)):
            found[word].append(file)
    return dict(found)


def _python_files(source: Path) -> Iterable[str]:
    for path in source.rglob("*.py"):
        place = path.relative_to(source)
        is_test = path.name.startswith("test_") or path.name == "conftest.py"
        if LEFT_OUT.isdisjoint(place.parts) and not is_test and _is_plain(path):
            yield place.as_posix()


def _is_plain(path: Path) -> bool:
    """Links are left out: what they lead to need not be the package's."""
    return path.is_file() and not path.is_symlink() and path.stat().st_size <= MAX_FILE_BYTES
