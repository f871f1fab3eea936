"""The documents' commands do what they say, as they stand there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.commands import ENVIRONMENT
from tests.docs.markdown import ROOT, Block, blocks, section
from tests.docs.plans import PLANS, Follows, Needs, Runs

TIMEOUT_S = 300
LONG_TIMEOUT_S = 5400
# A server is started on a free port, asked whether it is well, and stopped.
SCRIPT = """
set -eo pipefail
trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT
serve_and_ask() {
    agentrft serve --port 0 "$@" >serve.log 2>&1 &
    local server=$!
    while ! grep -q '^agentrft serves' serve.log; do kill -0 $server || { cat serve.log; exit 1; }; sleep 0.1; done
    python -c 'import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1] + "/healthz", timeout=60).read())' \
        "$(sed -n 's|^agentrft serves \\(.*\\)/v1$|\\1|p' serve.log)"
    kill -TERM $server
    wait $server || [ $? = 143 ]
}
"""


def run_block(block: Block, plan: Runs, folder: Path, timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Run its commands, and those of the blocks that follow it, in one shell."""
    if plan.inside:
        shutil.copytree(ROOT / plan.inside, folder, ignore=shutil.ignore_patterns("data", "runs", "__pycache__"))
    environment = folder / ".venv/bin"
    environment.mkdir(parents=True)
    (environment / "activate").write_text(f"export PATH={environment}:$PATH\n")
    for name, what in {"python": "", "agentrft": "-m agentrft.cli"}.items():
        (environment / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {what} "$@"\n')
        (environment / name).chmod(0o755)
    lines = [SCRIPT, *plan.first]
    for command in (command for one in (block, *following(block)) for command in one.commands):
        if command.startswith("agentrft serve"):
            command = command.replace("agentrft serve", "serve_and_ask", 1)
        if command.startswith(plan.background) and plan.background:
            command += " & sleep 20"
        if not (plan.left_out and command.startswith(plan.left_out)):
            lines.append(command)
    return subprocess.run(
        ["bash", "-c", "\n".join(lines)],
        cwd=folder,
        env={**ENVIRONMENT, "PATH": f"{environment}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )


def following(block: Block) -> list[Block]:
    """The blocks that are run after it, one after the other."""
    after = [one for one in blocks("sh") if PLANS.get(one.place) == Follows(block.place)]
    return [one for found in after for one in (found, *following(found))]


def blocks_to_run(*, minutes: bool) -> list[tuple[Block, Runs]]:
    planned = [(block, PLANS.get(block.place)) for block in blocks("sh")]
    return [(block, plan) for block, plan in planned if isinstance(plan, Runs) and plan.minutes == minutes]


def test_every_shell_block_has_a_plan() -> None:
    assert {block.place for block in blocks("sh")} == set(PLANS)


def test_a_block_that_follows_another_is_run_with_it() -> None:
    run = {
        after.place
        for minutes in (False, True)
        for block, _ in blocks_to_run(minutes=minutes)
        for after in following(block)
    }
    assert run == {place for place, plan in PLANS.items() if isinstance(plan, Follows)}


@pytest.mark.parametrize("place", [place for place, plan in PLANS.items() if isinstance(plan, Needs)])
def test_a_block_that_is_not_run_stands_under_what_it_needs(place: str) -> None:
    plan = PLANS[place]
    assert isinstance(plan, Needs)
    (block,) = [block for block in blocks("sh") if block.place == place]
    assert plan.words in section(block.document, block.heading)
    assert not plan.instead or (ROOT / plan.instead).is_file()


@pytest.mark.parametrize(("block", "plan"), blocks_to_run(minutes=False), ids=lambda value: getattr(value, "place", ""))
def test_the_commands_work(block: Block, plan: Runs, tmp_path: Path) -> None:
    ended = run_block(block, plan, tmp_path / "here", TIMEOUT_S)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.fresh
@pytest.mark.parametrize(("block", "plan"), blocks_to_run(minutes=True), ids=lambda value: getattr(value, "place", ""))
def test_the_commands_that_take_minutes_work(block: Block, plan: Runs, tmp_path: Path) -> None:
    ended = run_block(block, plan, tmp_path / "here", LONG_TIMEOUT_S)
    assert ended.returncode == 0, ended.stdout + ended.stderr
