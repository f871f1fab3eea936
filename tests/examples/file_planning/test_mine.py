"""Requests mined out of a real git repository, made here, and the data that come of them."""

import subprocess
from pathlib import Path

import pytest

from examples.file_planning.change_requests import load_change_requests
from examples.file_planning.make_data import RealRequests, read_rows, write_data
from examples.file_planning.mine import mine, write_rows
from examples.file_planning.sources import NoSource, commit_source

FILES = [f"mod_{letter}.py" for letter in "abcdefgh"]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("history") / "project"
    folder.mkdir()
    git(folder, "init", "--quiet")
    for file in FILES:
        (folder / file).write_text(f"def handle_{file[4]}():\n    return None\n")
    commit(folder, "First files of the project")
    (folder / "mod_a.py").write_text("def handle_a():\n    return 1\n")
    (folder / "tests").mkdir()
    (folder / "tests" / "test_a.py").write_text("")
    commit(folder, "Let handle_a return a number (#12)\n\nIt returned\nnothing.\n\nMore.\n\nSigned-off-by: A <a@b.c>")
    (folder / "mod_b.py").rename(folder / "renamed.py")
    (folder / "mod_c.py").unlink()
    (folder / "new.py").write_text("")
    commit(folder, "Rename the module of handle_b and drop handle_c")
    (folder / "README.md").write_text("text\n")
    commit(folder, "Explain what this is about")
    (folder / "mod_d.py").write_text("")
    commit(folder, "wip")
    for file in FILES[3:]:
        (folder / file).write_text("x = 1\n")
    commit(folder, "Change very many files at once")
    return folder


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", str(folder), *who, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit(folder: Path, message: str) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", message)


def test_commits_that_change_a_few_modules_become_requests_with_the_files_before_them(clone: Path) -> None:
    renamed, returned = mine(clone)
    assert returned.request == "Let handle_a return a number. It returned nothing"
    assert returned.files == ("mod_a.py",)
    assert returned.parent == git(clone, "rev-parse", "HEAD~5")
    assert renamed.request == "Rename the module of handle_b and drop handle_c"
    assert renamed.files == ("mod_b.py", "mod_c.py")
    assert renamed.parent == git(clone, "rev-parse", "HEAD~4")


def test_what_is_no_repository_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a git repository"):
        mine(tmp_path)


def test_the_source_is_that_of_the_commit_before(clone: Path, tmp_path: Path) -> None:
    source = commit_source(clone, git(clone, "rev-parse", "HEAD~5"), tmp_path)
    assert sorted(path.name for path in source.iterdir()) == FILES
    assert "return None" in (source / "mod_a.py").read_text()
    assert commit_source(clone, git(clone, "rev-parse", "HEAD~5"), tmp_path) == source
    for no_commit in ("deadbeef", "--output=x"):
        with pytest.raises(NoSource):
            commit_source(clone, no_commit, tmp_path)


def test_mined_rows_become_training_data(clone: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    assert write_rows(clone, "project", rows) == 2
    assert [request.kind for request in load_change_requests(rows)] == ["real", "real"]
    with pytest.raises(ValueError, match="no requests for validation"):
        write_data(tmp_path / "data", 0, "small", RealRequests(rows, tmp_path / "cache"))
    trained = read_rows(tmp_path / "data" / "train.jsonl")
    assert sorted(row["files"] for row in trained) == [["mod_a.py"], ["mod_b.py", "mod_c.py"]]
