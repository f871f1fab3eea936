"""A read-only shell over one repository: command lines of a few real programs, with bounded time, memory and output."""

import glob
import os
import selectors
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from examples.common.tool_server import BadArguments
from examples.file_planning import jail
from examples.file_planning.command_line import Pipeline, Word, parse
from examples.file_planning.programs import check, in_disk_order, inside

TIMEOUT_S = 5.0
# Of one program; what comes after is not read, and the program is ended.
MAX_BYTES = 1024**2
MAX_FILES_OF_A_WILDCARD = 300


@dataclass(frozen=True)
class Limits:
    """How much of an output the agent reads."""

    lines: int
    columns: int

    def cut(self, text: str) -> str:
        """The first lines of a text, none too long, and how many there were."""
        lines = text.splitlines()
        shown = [line if len(line) <= self.columns else line[: self.columns - 1] + "…" for line in lines[: self.lines]]
        if len(lines) > self.lines:
            shown.append(f"({len(lines) - self.lines} more lines)")
        return "\n".join(shown)


@dataclass(frozen=True)
class Shell:
    """The shell of a repository.

    Attributes:
        root: the repository's folder, without links in its path.
        jailed: whether programs run in bubblewrap.
        timeout_s: of one command line.
    """

    root: Path
    jailed: bool
    timeout_s: float = TIMEOUT_S

    def run(self, line: str, folder: Path) -> tuple[str, Path]:
        """Run a command line.

        Args:
            folder: where it runs, in the repository.

        Returns:
            What it printed, errors last, and the folder it ends in, which `cd` changes.

        Raises:
            BadArguments: it may not be run, or takes too long; for the agent to read.
        """
        deadline = time.monotonic() + self.timeout_s
        printed: list[str] = []
        for pipeline in parse(line):
            if pipeline[0][0].text == "cd":
                folder = self._changed(pipeline, folder)
                continue
            text, failed = self._pipeline(pipeline, folder, deadline)
            printed.append(text)
            if failed:
                break
        return "".join(printed), folder

    def _changed(self, pipeline: Pipeline, folder: Path) -> Path:
        words = [word.text for word in pipeline[0][1:]]
        if len(pipeline) > 1 or len(words) > 1:
            raise BadArguments("cd takes one folder")
        changed = inside(words[0], folder, self.root) if words else self.root
        if not changed.is_dir():
            raise BadArguments(f"cd: {words[0]}: no such folder")
        return changed

    def _pipeline(self, pipeline: Pipeline, folder: Path, deadline: float) -> tuple[str, bool]:
        """What the last program printed and all errors; and whether the last one failed."""
        commands = [_expanded(command, folder) for command in pipeline]
        for name, *arguments in commands:
            check(name, arguments, folder, self.root)
        output, errors, code = b"", "", 0
        for command in commands:
            output, error, code = self._program(command, folder, output, deadline)
            if in_disk_order(command[0], command[1:], folder):
                output = _by_file(output)
            # Programs call themselves by their path, which is no part of the repository.
            errors += error.decode(errors="replace").replace(jail.program_path(command[0]), command[0])
        text = output.decode(errors="replace") + errors
        # grep fails where nothing matches, which is an answer; `&&` stops there, as it does in a shell.
        return text, code != 0

    def _program(self, command: list[str], folder: Path, given: bytes, deadline: float) -> tuple[bytes, bytes, int]:
        if self.jailed:
            argv = jail.jailed(command, self.root, folder)
        else:
            argv = [*jail.limits(), jail.program_path(command[0]), *command[1:]]
        with tempfile.TemporaryFile() as stdin:
            stdin.write(given)
            stdin.seek(0)
            process = subprocess.Popen(
                argv,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=None if self.jailed else folder,
                env=jail.ENVIRONMENT,
                start_new_session=True,
            )
        try:
            output, error = _read(process, deadline)
        except TimeoutError:
            raise BadArguments(f"the command took more than {self.timeout_s:g} s: ask for less") from None
        finally:
            _end(process)
        return output, error, process.returncode


def _read(process: subprocess.Popen[bytes], deadline: float) -> tuple[bytes, bytes]:
    """Both outputs up to their bound.

    Raises:
        TimeoutError: the process is still at work at the deadline.
    """
    assert process.stdout is not None and process.stderr is not None
    streams: tuple[IO[bytes], IO[bytes]] = (process.stdout, process.stderr)
    found: dict[IO[bytes], bytearray] = {stream: bytearray() for stream in streams}
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError
            for key, _ in ready:
                stream = next(one for one in streams if one is key.fileobj)
                chunk = os.read(key.fd, 65536)
                found[stream] += chunk
                if not chunk or len(found[stream]) > MAX_BYTES:
                    selector.unregister(stream)
                    if chunk:
                        return bytes(found[streams[0]][:MAX_BYTES]), bytes(found[streams[1]][:MAX_BYTES])
    return bytes(found[streams[0]]), bytes(found[streams[1]])


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started, which are a session of their own."""
    if process.poll() is None:
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    for stream in (process.stdout, process.stderr):
        assert stream is not None
        stream.close()


def _expanded(command: list[Word], folder: Path) -> list[str]:
    """A command's words, with the file names that wildcards stand for; those that fit no file stay as they are."""
    words: list[str] = []
    for word in command:
        # Not of what leads out: that is refused afterwards, as it stands.
        may_expand = word.wildcards and not word.text.startswith("/") and ".." not in word.text
        names = sorted(glob.glob(word.text, root_dir=folder)) if may_expand else []
        if len(names) > MAX_FILES_OF_A_WILDCARD:
            raise BadArguments(f"{word.text}: {len(names)} files; at most {MAX_FILES_OF_A_WILDCARD} are taken")
        words += names or [word.text]
    return words


def _by_file(output: bytes) -> bytes:
    """Lines in the order of their files, and of one file as they are."""
    lines = output.splitlines(keepends=True)
    return b"".join(sorted(lines, key=_file_of))


def _file_of(line: bytes) -> bytes:
    return line.split(b":", 1)[0].rstrip(b"\n")
