"""Change requests with the files that answered them, and where they are read from.

Rows of this example's own form, which `mine.py` writes:
    {"package": "click", "version": "8.1.7", "request": "Land the bar at its end", "files": ["src/click/a.py"]}
with `commit` and `clone` in place of `version` where the source is a commit of a git repository. Rows of SWE-bench's
form have `problem_statement`, `patch`, `repo` and `base_commit`.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATCHED = re.compile(r"^(?:---|\+\+\+) [ab]/(.+?)(?:\t.*)?$", re.MULTILINE)
# Of what was asked, the beginning: issues come with logs and tracebacks.
MAX_CHARACTERS = {"small": 240, "large": 4000}


@dataclass(frozen=True)
class ChangeRequest:
    """What was asked, and what answered it.

    Attributes:
        package: the project.
        text: what was asked.
        files: of the source before the change, that the change touched.
        version: the release before the change; empty where there is a commit.
        commit: the commit before the change; empty where there is a release.
        clone: folder of the project's git repository, with a commit.
        kind: how it was made, for tables.
    """

    package: str
    text: str
    files: tuple[str, ...]
    version: str = ""
    commit: str = ""
    clone: str = ""
    kind: str = "real"


def load_change_requests(path: Path) -> list[ChangeRequest]:
    """The rows of one file, or of all files of a folder, in this example's form.

    Raises:
        ValueError: a row lacks a key; with its place.
    """
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    found = []
    for file in files:
        for place, row in _rows(file):
            missing = [key for key in ("package", "request", "files") if key not in row]
            if missing or not (row.get("version") or row.get("commit")):
                raise ValueError(f"{place}: {missing or ['version or commit']} missing")
            source = {key: str(row.get(key, "")) for key in ("version", "commit", "clone")}
            found.append(ChangeRequest(row["package"], row["request"], tuple(row["files"]), **source))
    return found


def load_swe_bench(path: Path, clones: Path) -> list[ChangeRequest]:
    """Rows of SWE-bench's form, that a user has; those whose patch changes no Python file are left out.

    Args:
        clones: the folder with a git clone of each repository, as `OWNER__NAME` or `NAME`.

    Raises:
        ValueError: a row lacks a key; with its place.
    """
    found = []
    for place, row in _rows(path):
        missing = [key for key in ("problem_statement", "patch", "repo", "base_commit") if key not in row]
        if missing:
            raise ValueError(f"{place}: {missing} missing")
        owner, _, name = row["repo"].rpartition("/")
        full = clones / f"{owner}__{name}"
        clone = full if full.is_dir() else clones / name
        if files := files_of_patch(row["patch"]):
            source = {"commit": row["base_commit"], "clone": str(clone)}
            found.append(ChangeRequest(name, row["problem_statement"], files, **source, kind="swe-bench"))
    return found


def files_of_patch(patch: str) -> tuple[str, ...]:
    """The Python files that a unified diff changes or removes, tests left out; those that it adds cannot be found in
    the source before it."""
    found: dict[str, None] = {}
    for part in re.split(r"^diff --git ", patch, flags=re.MULTILINE):
        before = PATCHED.search(part)
        if before is not None and "--- /dev/null" not in part and before[1].endswith(".py") and not is_test(before[1]):
            found[before[1]] = None
    return tuple(found)


def is_test(file: str) -> bool:
    """Whether a path is one of a project's tests."""
    *folders, name = file.split("/")
    return bool({"test", "tests", "testing"} & set(folders)) or name.startswith("test_") or name == "conftest.py"


def shortened(text: str, most: int) -> str:
    """The text on one line, cut at a word's end."""
    text = " ".join(text.split())
    return text if len(text) <= most else text[:most].rsplit(" ", 1)[0] + " …"


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip():
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError(f"{path}:{number}: not an object")
            yield f"{path}:{number}", row
