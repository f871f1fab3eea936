"""The data: the same each time, of different packages in each file, and requests that do not tell the answer."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from agentrft.data import load_demonstrations, load_samples
from examples.file_planning import make_data
from examples.file_planning.change_requests import files_of_patch, load_change_requests, load_swe_bench
from examples.file_planning.make_data import SIZES, RealRequests, read_rows, write_data
from examples.file_planning.sources import NoSource, release_source

ROOT = Path(__file__).parents[3]
FEW = {"train": 8, "validation": 4, "test": 4, "demonstrations": 6}
# What the examples' own packages are, but sooner read.
SMALL_PACKAGES = {"train": ("alembic",), "validation": ("aiohttp",), "test": ("jinja2",), "demonstrations": ("fsspec",)}
PATCH = """diff --git a/src/one.py b/src/one.py
index 1..2 100644
--- a/src/one.py
+++ b/src/one.py
@@ -1 +1 @@
-a
+b
diff --git a/src/new.py b/src/new.py
new file mode 100644
--- /dev/null
+++ b/src/new.py
@@ -0,0 +1 @@
+a
diff --git a/src/gone.py b/src/gone.py
deleted file mode 100644
--- a/src/gone.py
+++ /dev/null
@@ -1 +0,0 @@
-a
diff --git a/tests/test_one.py b/tests/test_one.py
--- a/tests/test_one.py
+++ b/tests/test_one.py
@@ -1 +1 @@
-a
+b
diff --git a/README.md b/README.md
--- a/README.md
+++ b/README.md
@@ -1 +1 @@
-a
+b
"""


def test_the_same_seed_gives_the_same_bytes_in_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make_data, "INSTALLED", SMALL_PACKAGES)
    write_data(tmp_path / "here", seed=3, sizes=FEW)
    source = f"""
import sys
from pathlib import Path
from examples.file_planning import make_data
make_data.INSTALLED = {SMALL_PACKAGES}
make_data.write_data(Path(sys.argv[1]), seed=3, sizes={FEW})
"""
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-c", source, str(tmp_path / "there")]
    subprocess.run(command, check=True, env=environment, cwd=ROOT, timeout=120)
    files = [path.relative_to(tmp_path / "here") for path in sorted((tmp_path / "here").rglob("*")) if path.is_file()]
    assert len(files) > 20
    for file in files:
        assert (tmp_path / "here" / file).read_bytes() == (tmp_path / "there" / file).read_bytes()


def test_the_files_load_and_have_their_sizes(data: Path) -> None:
    for name in ("train", "validation", "test"):
        assert len(load_samples(data / f"{name}.jsonl")) == SIZES[name]
    assert len(load_demonstrations(data / "demonstrations.jsonl")) == SIZES["demonstrations"]


@pytest.mark.parametrize("key", ["package", "repository"])
def test_no_package_is_in_two_files(data: Path, key: str) -> None:
    found = {name: {row[key] for row in read_rows(data / f"{name}.jsonl")} for name in SIZES}
    assert sum(map(len, found.values())) == len(set().union(*found.values()))


def test_every_answer_is_in_a_small_repository_and_its_name_is_not_in_the_request(data: Path) -> None:
    for name in SIZES:
        for row in read_rows(data / f"{name}.jsonl"):
            folder = data / "repositories" / row["repository"]
            assert 6 <= len(list(folder.rglob("*.py"))) <= 25
            assert 1 <= len(row["files"]) <= 2
            for file in row["files"]:
                assert (folder / file).is_file()
                assert file.removesuffix(".py") not in row["messages"][1]["content"]
            assert row["request"] in row["messages"][1]["content"]


def test_all_kinds_of_requests_are_in_every_file(data: Path) -> None:
    for name in SIZES:
        kinds = Counter(row["kind"] for row in read_rows(data / f"{name}.jsonl"))
        assert set(kinds) == {"symbol", "words", "two"}
        assert min(kinds.values()) >= 10


def test_demonstrations_look_before_they_answer_and_some_ask_for_two_things_at_once(data: Path) -> None:
    turns, together = [], 0
    for row in read_rows(data / "demonstrations.jsonl"):
        calls = [message["tool_calls"] for message in row["messages"] if message.get("tool_calls")]
        results = "\n".join(message["content"] for message in row["messages"] if message["role"] == "tool")
        assert row["messages"][-1]["content"].splitlines() == row["files"]
        assert all(file in results for file in row["files"])
        turns.append(len(calls) + 1)
        together += any(len(made) > 1 for made in calls)
    # More than twice the two turns that are needed, and never more than the job gives.
    assert sum(turns) / len(turns) > 4
    assert max(turns) <= 8
    assert 0.1 < together / len(turns) < 0.5


def test_large_data_are_about_whole_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make_data, "INSTALLED", SMALL_PACKAGES)
    write_data(tmp_path, seed=0, difficulty="large", sizes=FEW)
    rows = read_rows(tmp_path / "train.jsonl")
    assert {(row["difficulty"], row["repository"]) for row in rows} == {("large", "alembic")}
    assert any("/" in file for row in rows for file in row["files"])
    with pytest.raises(ValueError, match="small, large"):
        write_data(tmp_path, seed=0, difficulty="huge")


def test_the_files_of_a_patch_are_those_that_were_there_before_it() -> None:
    assert files_of_patch(PATCH) == ("src/one.py", "src/gone.py")


def test_rows_of_the_swe_bench_form_are_read(tmp_path: Path) -> None:
    (tmp_path / "owner__thing").mkdir()
    row = {"repo": "owner/thing", "base_commit": "abc1234", "problem_statement": "It breaks", "patch": PATCH}
    only_tests = {**row, "patch": PATCH[PATCH.index("diff --git a/tests") :]}
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in (row, only_tests)))
    (found,) = load_swe_bench(path, tmp_path)
    assert (found.package, found.text, found.commit) == ("thing", "It breaks", "abc1234")
    assert found.files == ("src/one.py", "src/gone.py")
    assert found.clone == str(tmp_path / "owner__thing")
    path.write_text(json.dumps({"repo": "owner/thing"}) + "\n")
    with pytest.raises(ValueError, match=r"rows.jsonl:1: .*patch"):
        load_swe_bench(path, tmp_path)


def test_rows_without_a_version_or_commit_are_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"package": "a", "request": "b", "files": ["c.py"]}\n')
    with pytest.raises(ValueError, match=r"rows.jsonl:1: .*version or commit"):
        load_change_requests(path)


def test_a_release_comes_out_of_the_cache_and_what_is_no_release_is_refused(tmp_path: Path) -> None:
    kept = tmp_path / "sources" / "thing-1.0" / "thing-1.0" / "src"
    kept.mkdir(parents=True)
    assert release_source("thing", "1.0", tmp_path) == kept.parent
    for package, version in (("../thing", "1.0"), ("thing", "--index-url=x"), ("thing", "1.0; x")):
        with pytest.raises(NoSource):
            release_source(package, version, tmp_path)


def test_real_requests_become_rows_of_the_repository_that_has_their_files(tmp_path: Path) -> None:
    packages = {"networkx": "train", "pytest": "demonstrations", "flask": "validation", "click": "test"}
    requests = []
    for package in packages:
        source = tmp_path / "cache" / "sources" / f"{package}-1.0" / f"{package}-1.0" / "src"
        source.mkdir(parents=True)
        for number in range(8):
            (source / f"m{number}.py").write_text(f"def handler_{number}(): ...\n")
        found = {"package": package, "version": "1.0"}
        requests += [{**found, "request": f"Wrong handler_{n}", "files": [f"src/m{n}.py"]} for n in range(8)]
        # Not in the release, and led to by no word: neither becomes a row.
        requests.append({**found, "request": "Wrong handler_1", "files": ["src/new.py"]})
        requests.append({**found, "request": "Something else", "files": ["src/m1.py"]})
    path = tmp_path / "requests.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in requests))
    write_data(tmp_path / "data", 0, "small", RealRequests(path, tmp_path / "cache"))
    for package, name in packages.items():
        rows = read_rows(tmp_path / "data" / f"{name}.jsonl")
        assert {row["package"] for row in rows} == {package}
        assert sorted(row["files"] for row in rows) == [[f"m{n}.py"] for n in range(8)]
        assert {row["kind"] for row in rows} == {"real"}
