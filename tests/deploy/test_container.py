"""The container file names what is there. No test runs it: that takes a container engine."""

import re

from agentrft import __version__
from tests.cli.commands import run_here
from tests.docs.markdown import ROOT

STEPS = (ROOT / "deploy/Containerfile").read_text()


def test_what_it_copies_is_what_make_dist_and_the_repository_have() -> None:
    (copied,) = re.findall(r"^COPY (.+) /tmp/build/$", STEPS, re.MULTILINE)
    wheel, *locks = copied.split()
    assert wheel == f"dist/agentrft-{__version__}-py3-none-any.whl"
    assert all((ROOT / lock).is_file() for lock in locks)


def test_its_command_parses() -> None:
    (arguments,) = re.findall(r"^CMD \[(.+)\]$", STEPS, re.MULTILINE)
    assert run_here(*[word.strip(' "') for word in arguments.split(",")], "--help").code == 0


def test_it_does_not_run_as_root() -> None:
    assert re.findall(r"^USER (.+)$", STEPS, re.MULTILINE) == ["agentrft"]
