"""What the documents name is there: commands and options, targets, files, links, jobs."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from typer.core import TyperGroup

from agentrft.cli.main import app
from agentrft.spec import BaseJobSpec, parse_any_job
from examples.common.tables import BEGIN, END, write_table
from examples.results import NAMES, system_named
from tests.docs.markdown import DOCUMENTS, FENCE, LINK, ROOT, Block, anchors, blocks, text_of

SPAN = re.compile(r"`([^`\n]+)`")
TARGET = re.compile(r"^([a-z][a-z-]*):", re.MULTILINE)
OUR_FOLDERS = ("docs", "scripts", "src", "tests", "examples", "benchmarks", "deploy")
# Where what was measured stands with how it was.
MEASURED = (
    "README.md",
    "CONTRIBUTING.md",
    *(f"docs/{name}.md" for name in ("learning", "benchmarks", "dashboard", "models")),
)
LANGUAGES = ("sh", "text", "python", "yaml", "json", "ini", "nginx")
JOB: dict[str, Any] = {
    "model": "smollm2-135m",
    "training_file": "data/train.jsonl",
    "method": {
        "type": "reinforcement",
        "reinforcement": {
            "grader": {"type": "string_check", "input": "a", "reference": "b", "operation": "eq"},
        },
    },
}
OF_THE_METHOD = ("tools", "grader", "hyperparameters", "response_format", "tool_choice", "on_rollout_start")


def identity(block: Block) -> str:
    return f"{block.document}:{block.line}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_fenced_block_says_its_language(document: str) -> None:
    for block in blocks():
        if block.document == document:
            assert block.language in LANGUAGES, f"{identity(block)}: write one of {LANGUAGES} after the ```"


@pytest.mark.parametrize("block", blocks("sh"), ids=identity)
def test_every_command_of_ours_in_a_shell_block_parses(block: Block) -> None:
    for command in block.commands:
        for part in re.split(r"&&|;|\||&(?!&)", command):
            words = _words(part)
            if words[:1] == ["agentrft"]:
                _parse(words[1:])


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_that_the_text_mentions_has_these_options(document: str) -> None:
    for span in SPAN.findall(FENCE.sub("", text_of(document)).replace("\n", " ")):
        words = _words(span)
        if words[:1] == ["agentrft"] and len(words) > 1:
            _has_options(words[1:], span)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_make_target_that_is_named_exists(document: str) -> None:
    targets = set(TARGET.findall((ROOT / "Makefile").read_text()))
    named = {name for name in re.findall(r"(?:^|`)make ([a-z][a-z-]*)", text_of(document), re.MULTILINE)}
    assert named <= targets


def test_every_make_target_is_in_the_list_for_contributors() -> None:
    described = set(re.findall(r"^([a-z][a-z-]*):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    listed = text_of("CONTRIBUTING.md").split("## ")[0]
    missing = {name for name in described if not re.search(rf"\b{name}\b|-{name.removeprefix('bench-')}\b", listed)}
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_somewhere(document: str) -> None:
    for link in LINK.findall(text_of(document)):
        if "://" in link:
            continue
        path, _, fragment = link.partition("#")
        target = (ROOT / document).parent / path if path else ROOT / document
        assert target.exists(), f"{document}: {link}"
        if fragment:
            assert fragment in anchors(str(target.resolve().relative_to(ROOT))), f"{document}: {link}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_file_of_ours_that_is_named_exists(document: str) -> None:
    for span in SPAN.findall(text_of(document)):
        if re.fullmatch(rf"(?:{'|'.join(OUR_FOLDERS)})/[\w./-]+", span) and "NAME" not in span:
            made_later = span.startswith("benchmarks/results/")
            assert made_later or (ROOT / span).exists() or (ROOT / "src/agentrft" / span).exists(), span


def test_every_number_of_the_results_stands_where_it_was_measured() -> None:
    """So that a number that is measured again is changed in both places, and none is made up."""
    number = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e-\d+)?")
    measured = {one for source in MEASURED for one in number.findall(text_of(source))}
    told, _, rest = text_of("docs/results.md").partition(BEGIN)
    assert set(number.findall(told + rest.partition(END)[2])) - measured == set()


def test_the_table_of_the_systems_is_that_of_the_runs_that_were_kept(tmp_path: Path) -> None:
    page = tmp_path / "results.md"
    page.write_text(text_of("docs/results.md"))
    write_table(page, [system_named(name) for name in NAMES])
    assert page.read_text() == text_of("docs/results.md")


def test_the_map_of_the_house_is_true() -> None:
    """Each folder and file of a row is there, and each folder of the package has a row."""
    package = ROOT / "src/agentrft"
    mapped: set[str] = set()
    for row in re.findall(r"^\| (`[^|]+) \|[^|]+\| ([^|]+) \|$", text_of("CONTRIBUTING.md"), re.MULTILINE):
        places = [place.rstrip("/") for place in SPAN.findall(row[0])]
        mapped |= set(places)
        for place in places:
            assert (package / place).exists() or (ROOT / place).exists(), place
        for name in SPAN.findall(row[1]):
            if re.fullmatch(r"[\w./]+\.(py|cpp)", name):
                folders = [package / "server", *(base / place for base in (package, ROOT) for place in places)]
                assert any((folder / name).exists() for folder in folders), f"{row[0]}: {name}"
    folders = {str(path.parent.relative_to(package)) for path in package.rglob("__init__.py")} - {"."}
    # What lies under a folder of the map needs no row of its own.
    assert {folder for folder in folders if not any(f"{folder}/".startswith(f"{place}/") for place in mapped)} == set()


@pytest.mark.parametrize("block", blocks("yaml"), ids=identity)
def test_every_fragment_of_a_job_is_taken(block: Block, tmp_path: Path) -> None:
    (tmp_path / "grader.py").write_text("def grade(sample, item):\n    return 1.0\n")
    # "…" stands for the rest of a mapping that an example leaves out.
    text = re.sub(r"\{type: (\w+), …\}", lambda match: json.dumps(GRADERS[match[1]]), block.text)
    fragment = yaml.safe_load(text)
    if isinstance(fragment, list):
        fragment = {"tools": fragment}
    job = {**JOB, **{key: value for key, value in fragment.items() if key not in OF_THE_METHOD}}
    if job["method"] is JOB["method"]:
        method = {key: value for key, value in fragment.items() if key in OF_THE_METHOD}
        job["method"] = {"type": "reinforcement", "reinforcement": {**JOB["method"]["reinforcement"], **method}}
    assert isinstance(parse_any_job(job, folder=tmp_path, expand=False), BaseJobSpec)


GRADERS = {"score_model": {"type": "score_model", "model": "judge", "input": [{"role": "user", "content": "score"}]}}


@pytest.mark.parametrize("block", blocks("json"), ids=identity)
def test_every_json_fragment_is_json(block: Block) -> None:
    for line in block.text.splitlines():
        json.loads(line)


@pytest.mark.parametrize("block", blocks("python"), ids=identity)
def test_every_python_fragment_compiles(block: Block) -> None:
    compile(block.text.replace(", …}", "}").replace("{…}", "{}"), identity(block), "exec")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_what_is_fetched_by_path_asks_for_no_type_of_the_sdks_http_library(document: str) -> None:
    """That was httpx until openai 3, and is httpx2 since."""
    assert not re.search(r"cast_to=httpx", text_of(document))


def _words(command: str) -> list[str]:
    """The words of a command, without its redirections."""
    command = re.sub(r"\d?>+\s*\S+", "", command)
    try:
        return shlex.split(command)
    except ValueError:  # an apostrophe of the text's
        return command.replace("'", "").replace('"', "").split()


def _parse(arguments: list[str]) -> None:
    command, rest = _command(arguments)
    # Parses and checks every value, and runs nothing.
    context = command.make_context(command.name, rest)
    assert not isinstance(command, TyperGroup) or not rest or rest[0].startswith("-"), f"no such command: {arguments}"
    context.close()


def _command(words: list[str]) -> tuple[Any, list[str]]:
    """The command that the words name, and what is left of them."""
    command: Any = typer.main.get_command(app)
    rest = list(words)
    while isinstance(command, TyperGroup) and rest and rest[0] in command.commands:
        command = command.commands[rest.pop(0)]
    return command, rest


def _has_options(words: list[str], span: str) -> None:
    command, rest = _command(words)
    assert command.name != "agentrft" or rest[0].startswith("-") or rest[0].isupper(), f"no such command: {span}"
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    given = {word.split("=")[0] for word in rest if word.startswith("--")}
    assert given <= known | {"--help"}, span
