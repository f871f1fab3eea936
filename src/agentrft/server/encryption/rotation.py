"""Who uses the key that secrets are stored with, and how it is changed: a kill at any moment loses nothing.

The new key is put beside the old one; everything is sealed with it in one transaction; it takes the old one's place.
Of a change that was cut off, what is stored tells how far it came: whoever comes next finishes or undoes it.
Who has the key in memory holds a lock with others; who changes the key holds it alone.
"""

import fcntl
import os
from pathlib import Path
from typing import IO

from cryptography.fernet import Fernet

from agentrft.errors import UserError
from agentrft.server.encryption.sealing import FILE_NAME, VARIABLE, Sealer, load_key, read_key, sync_folder, write_key
from agentrft.server.records import Records

LOCK_NAME = "secret.key.lock"


def use_key(data_dir: Path, records: Records) -> tuple[str, IO[str]]:
    """The key, and a file that keeps it from being changed until it is closed or the process ends.

    Raises:
        UserError: it is being changed now; or others could read its file.
    """
    lock = _open_lock(data_dir)
    is_file = VARIABLE not in os.environ
    if is_file and _pending(data_dir).exists() and _lock(lock, fcntl.LOCK_EX):
        _finish_or_undo(data_dir, records)
    _share(lock)
    if is_file and _pending(data_dir).exists():
        lock.close()
        raise UserError(
            f"{_pending(data_dir)}: a change of the key was cut off, and another server is running.",
            "Stop all servers of this data folder, and start one.",
        )
    return load_key(data_dir), lock


def hold_key(data_dir: Path) -> IO[str]:
    """As `use_key`, for who has been told the key."""
    lock = _open_lock(data_dir)
    _share(lock)
    return lock


def rotate(data_dir: Path, records: Records) -> int:
    """Seal everything with a new key; how many jobs that were.

    Raises:
        UserError: a server, or a worker of one, uses the key; or it is given by the environment, which nobody can
            change from here; or what is stored was sealed with another key. Nothing was changed then.
    """
    if VARIABLE in os.environ:
        raise UserError(
            f"{VARIABLE} is set: the key is not a file's.", "Unset it, and put the old key into the data folder's file."
        )
    with _open_lock(data_dir) as lock:
        if not _lock(lock, fcntl.LOCK_EX):
            raise UserError(
                "a server uses the key: it would go on sealing with the old one.",
                "Stop it; its workers are gone seconds later. Then run this again, and start it.",
            )
        _finish_or_undo(data_dir, records)
        old, new = Sealer(load_key(data_dir)), Fernet.generate_key().decode()
        opened = {key: old.open(text) for key, text in records.sealed().items()}
        # The new key is on the disk before anything is sealed with it, the old one until all is.
        write_key(_pending(data_dir), new)
        sealer = Sealer(new)
        records.reseal({key: sealer.seal(text) for key, text in opened.items()})
        _put_in_place(data_dir)
    return sum(kind == "spec" for kind, _ in opened)


def seal_old_urls(sealer: Sealer, records: Records) -> None:
    """Seal the URLs of webhooks that an older version stored as they are."""
    clear = records.clear_urls()
    if clear:
        records.reseal({key: sealer.seal(url) for key, url in clear.items()})


def _finish_or_undo(data_dir: Path, records: Records) -> None:
    """What a rotation left that was cut off; call with the lock held alone."""
    pending, current = _pending(data_dir), data_dir / FILE_NAME
    if not pending.exists():
        return
    new, sealed = Sealer(read_key(pending)), records.sealed()
    stale = {key: text for key, text in sealed.items() if not new.opens(text)}
    if len(stale) == len(sealed) and current.exists():
        pending.unlink()
        return
    if stale and current.exists():
        # Of a server that ran meanwhile, from before it held the lock.
        old = Sealer(read_key(current))
        records.reseal({key: new.seal(old.open(text)) for key, text in stale.items() if old.opens(text)})
    _put_in_place(data_dir)


def _pending(data_dir: Path) -> Path:
    return data_dir / f"{FILE_NAME}.new"


def _put_in_place(data_dir: Path) -> None:
    _pending(data_dir).rename(data_dir / FILE_NAME)
    sync_folder(data_dir)


def _open_lock(data_dir: Path) -> IO[str]:
    data_dir.mkdir(parents=True, exist_ok=True)
    return (data_dir / LOCK_NAME).open("a")


def _share(lock: IO[str]) -> None:
    if not _lock(lock, fcntl.LOCK_SH):
        lock.close()
        raise UserError("the key of the stored secrets is being changed.", "Wait for `keys rotate-secret` to end.")


def _lock(lock: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
