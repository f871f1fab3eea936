"""Files that are never seen half written, and the lock of a job's folder."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from agentrft.errors import UserError

LOCK_FILE = "lock"


def replace_file(path: Path, content: bytes) -> None:
    """Write beside `path`, then rename: a reader sees the old content or the new one, also after a power cut."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    with ExitStack() as undo:
        # A Ctrl-C leaves no half a file either.
        undo.callback(os.unlink, temporary)
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        undo.pop_all()


def sync(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk, power cut or not."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def append_line(path: Path, line: str) -> None:
    """Add one line, which ends in a newline, in a single write."""
    with path.open("ab", buffering=0) as file:
        file.write(line.encode())


@contextmanager
def lock_folder(folder: Path, job_id: str) -> Iterator[None]:
    """Hold `<folder>/lock`, which the system releases when the process ends, however it ends.

    Raises:
        UserError: another process holds it.
    """
    with (folder / LOCK_FILE).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise UserError(
                f"{job_id} is being run by another process (pid {holder}).",
                f"Wait for it, or stop it with `kill {holder}` and resume the job.",
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
