"""Change requests out of the history of a git repository of yours, in the form that `make_data` reads.

    python -m examples.file_planning.mine ~/src/mine --package mine --out requests.jsonl
    python -m examples.file_planning.make_data --requests requests.jsonl

Each commit that changed one to four Python files, tests aside, is a row: what its message asks for, and the files,
which are looked for in the commit before it.
"""

import argparse
import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from examples.file_planning.change_requests import is_test

MAX_FILES = 4
MIN_WORDS = 3
# What a message says to people and machines and not about the change: links, issues, trailers.
REFERENCE = re.compile(r"https?://\S+|\(?(?:\bGH-|#)\d+\)?|\b(?:closes|fixes|resolves|refs)\s*$", re.IGNORECASE)
TRAILER = re.compile(r"^[A-Z][A-Za-z-]+(-[Bb]y|-[Ii]d): .*$", re.MULTILINE)
UNTOLD = re.compile(r"^(merge|release|bump|version|revert|wip)\b", re.IGNORECASE)
COMMIT, FIELD = "\x1e", "\x1f"


@dataclass(frozen=True)
class MinedCommit:
    """A commit as a row.

    Attributes:
        parent: the commit before it, whose source the request is about.
        request: what its message asks for.
        files: Python files that it changed or removed, by their paths before it.
    """

    parent: str
    request: str
    files: tuple[str, ...]


def mine(clone: Path) -> list[MinedCommit]:
    """The usable commits of a repository's history, the newest first; merges are left out.

    Raises:
        ValueError: it is no git repository.
    """
    form = f"--format={COMMIT}%P{FIELD}%s{FIELD}%b{FIELD}"
    command = ["git", "-C", str(clone), "-c", "core.quotepath=off", "log", "--no-merges", "--name-status", "-M", form]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode != 0:
        raise ValueError(f"{clone}: {done.stderr.strip()}")
    return list(_commits(done.stdout))


def write_rows(clone: Path, package: str, out: Path) -> int:
    """Write the rows of a repository; how many there are."""
    rows = [
        {
            "package": package,
            "commit": commit.parent,
            "clone": str(clone.resolve()),
            "request": commit.request,
            "files": list(commit.files),
        }
        for commit in mine(clone)
    ]
    out.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return len(rows)


def _commits(log: str) -> Iterator[MinedCommit]:
    for record in log.split(COMMIT)[1:]:
        parents, subject, body, changes = record.split(FIELD, 3)
        request = _request(subject, body)
        files = tuple(sorted(set(_changed(changes))))
        told = len(request.split()) >= MIN_WORDS and UNTOLD.match(request) is None
        if parents and told and 1 <= len(files) <= MAX_FILES:
            yield MinedCommit(parents.split()[0], request, files)


def _changed(changes: str) -> Iterator[str]:
    """Paths before the commit; a file that it adds is in no source before it."""
    for line in changes.strip().splitlines():
        status, *paths = line.split("\t")
        if status[0] != "A" and paths and paths[0].endswith(".py") and not is_test(paths[0]):
            yield paths[0]


def _request(subject: str, body: str) -> str:
    """Subject and first paragraph."""
    paragraph = TRAILER.sub("", body).strip().split("\n\n")[0]
    text = " ".join(f"{subject.rstrip('.')}. {paragraph}".split()) if paragraph else subject
    return re.sub(r" +([.,])", r"\1", " ".join(REFERENCE.sub("", text).split())).strip(" .")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clone", type=Path, help="a git repository")
    parser.add_argument("--package", help="what it is called in the rows; the folder's name by default")
    parser.add_argument("--out", type=Path, default=Path("requests.jsonl"))
    arguments = parser.parse_args()
    name = arguments.package or arguments.clone.resolve().name
    print(f"{write_rows(arguments.clone, name, arguments.out)} requests in {arguments.out}")


if __name__ == "__main__":
    main()
