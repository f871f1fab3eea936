"""Hostile code in a python grader, as whoever runs the tests and, where that is root, as an ordinary user, too: it
reaches nothing, changes nothing on the machine, and the grader answers its next call.
"""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.graders import attacks
from tests.graders.attacker import attacked

pytestmark = pytest.mark.skipif(
    shutil.which("bwrap") is None, reason="there is no bubblewrap; scripts/system.sh installs it"
)

ORDINARY_USER = 54321
SECRET = "sk-of-the-parent-0123456789"
HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
IS_X86 = os.uname().machine == "x86_64"

Attack = Callable[[str, dict[str, Any], float], dict[str, Any]]


def _as_ordinary_user() -> list[str]:
    """A command line's beginning. It also lets that user reach our Python where only root can enter its folders."""
    arguments = ["bwrap", "--dev-bind", "/", "/"]
    paths = [sys.base_prefix, sys.prefix, str(REPOSITORY)]
    closed = {
        str(parent)
        for path in paths
        for parent in list(Path(path).parents)[:-1]
        if not parent.stat().st_mode & 1 and all(above.stat().st_mode & 1 for above in parent.parents)
    }
    for folder in closed:
        arguments += ["--tmpfs", folder]
    for path in paths:
        for parent in list(Path(path).parents)[-2::-1]:
            if any(parent.is_relative_to(folder) for folder in closed):
                arguments += ["--perms", "0755", "--dir", str(parent)]
        arguments += ["--ro-bind", path, path]
    user = str(ORDINARY_USER)
    return [*arguments, "--", "setpriv", "--reuid", user, "--regid", user, "--clear-groups", "--"]


@pytest.fixture(scope="module", params=["as whoever runs the tests", "as an ordinary user"])
def attack(request: pytest.FixtureRequest) -> Iterator[Attack]:
    if request.param == "as whoever runs the tests":
        yield lambda source, item, timeout_s: asyncio.run(attacked(source, item, timeout_s))
        return
    if os.geteuid() != 0:
        pytest.skip("it is an ordinary user who runs the tests")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src"), "HOME": "/nowhere", "AGENTRFT_KEY": SECRET}
    process = subprocess.Popen(
        [*_as_ordinary_user(), sys.executable, str(HERE / "attacker.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    def run(source: str, item: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        stdin.write(json.dumps({"source": source, "item": item, "timeout_s": timeout_s}) + "\n")
        stdin.flush()
        return json.loads(stdout.readline())

    yield run
    stdin.close()
    process.wait(timeout=60)


@pytest.fixture
def item(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What there is to attack. All of it is readable by everybody on the machine."""
    monkeypatch.setenv("AGENTRFT_KEY", SECRET)
    for folder in (tmp_path, *tmp_path.parents):
        if str(folder).startswith("/tmp/") and folder.stat().st_uid == os.geteuid():
            folder.chmod(0o755)
    files = {"secret": "secret.txt", "rows": "train.jsonl", "weights": "model.safetensors"}
    for name in files.values():
        (tmp_path / name).write_text(SECRET)
        (tmp_path / name).chmod(0o666)
    with socket.socket() as network, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as local:
        network.bind(("127.0.0.1", 0))
        network.listen()
        local.bind(b"\0agentrft-%d" % os.getpid())
        local.setblocking(False)
        yield {
            **{key: str(tmp_path / name) for key, name in files.items()},
            "project": str(REPOSITORY / "README.md"),
            "pid": os.getpid(),
            "port": network.getsockname()[1],
            "abstract": f"agentrft-{os.getpid()}",
            # Where the worker keeps the stream of its replies.
            "replies": 4,
        }
        with pytest.raises(BlockingIOError):
            local.recv(1)
    assert all((tmp_path / name).read_text() == SECRET for name in files.values())


@pytest.fixture(autouse=True)
def machine() -> Iterator[None]:
    """The machine is afterwards what it was."""

    def state() -> tuple[Any, ...]:
        worker = REPOSITORY / "src/agentrft/graders/python_worker.py"
        return os.uname(), Path("/proc/sys/kernel/domainname").read_text(), worker.read_bytes(), worker.stat().st_mode

    before = state()
    yield
    assert state() == before


ATTACKS = {
    **attacks.FILES,
    **attacks.PROC,
    **attacks.RIGHTS,
    **attacks.PROCESSES,
    **attacks.KERNEL,
    **(attacks.OLD_CALLS if IS_X86 else {}),
    **attacks.SOCKETS,
    **attacks.MEMORY,
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_reaches_nothing_and_the_grader_goes_on(attack: Attack, item: dict[str, Any], name: str) -> None:
    found = attack(attacks.source(ATTACKS[name]), item, 60.0)
    assert found["outcome"] != "reached"
    assert "NameError" not in found["outcome"] and "SyntaxError" not in found["outcome"]
    assert found["next"] == 0


@pytest.mark.parametrize("name", attacks.ENDLESS)
def test_what_does_not_end_is_ended_at_its_time_out(attack: Attack, item: dict[str, Any], name: str) -> None:
    found = attack(attacks.source(attacks.ENDLESS[name]), item, 2.0)
    assert found["outcome"].startswith("timeout")
    assert found["next"] == 0


@pytest.mark.parametrize("name", attacks.FORGERIES)
def test_a_forged_reply_is_a_failure_of_one_call(attack: Attack, item: dict[str, Any], name: str) -> None:
    found = attack(attacks.source(attacks.FORGERIES[name], attacks.FORGE), item, 5.0)
    assert found["outcome"].startswith(("bad_answer", "crashed", "timeout"))
    assert found["next"] == 0


def test_there_are_more_than_fifty_attacks() -> None:
    assert len({*ATTACKS, *attacks.ENDLESS, *attacks.FORGERIES}) >= 150
