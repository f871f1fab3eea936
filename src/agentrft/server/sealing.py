"""Encryption of what a job needs and nobody may read: header values, keys, URLs with passwords.

The key is in the environment, or in a file that only its owner can read, never in the database.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.fernet import Fernet, InvalidToken

from agentrft.errors import UserError

if TYPE_CHECKING:
    from agentrft.server.records import Records

VARIABLE = "AGENTRFT_SECRET_KEY"
FILE_NAME = "secret.key"
KEY_REMEDY = "It is 32 random bytes in URL-safe base64; without the variable a key file is made."


class Sealer:
    """Seals texts with a key (Fernet: AES-128-CBC with HMAC-SHA256).

    Raises:
        UserError: the key is none.
    """

    def __init__(self, key: str) -> None:
        try:
            self._fernet = Fernet(key)
        except ValueError as error:
            raise UserError(
                f"{VARIABLE}: not a key.",
                KEY_REMEDY,
            ) from error

    def seal(self, text: str) -> str:
        return self._fernet.encrypt(text.encode()).decode()

    def open(self, sealed: str) -> str:
        """Raises UserError if another key sealed it."""
        try:
            return self._fernet.decrypt(sealed.encode()).decode()
        except InvalidToken as error:
            raise UserError(
                "what is stored was sealed with another key.", f"Start with the {VARIABLE} that the job was made with."
            ) from error


def load_key(data_dir: Path) -> str:
    """The key from the environment, else from its file, which is made if it is not there.

    Raises:
        UserError: others could read the file.
    """
    if VARIABLE in os.environ:
        return os.environ[VARIABLE]
    path = data_dir / FILE_NAME
    if not path.exists():
        write_key(path, Fernet.generate_key().decode())
    if path.stat().st_mode & 0o077:
        raise UserError(f"{path}: others can read it.", f"Run `chmod 600 {path}`.")
    return path.read_text().strip()


def write_key(path: Path, key: str) -> None:
    """Write a key file with mode 0600, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(handle, "w") as file:
        file.write(key + "\n")
    partial.rename(path)


def rotate(data_dir: Path, records: "Records") -> int:
    """Seal everything with a new key; how many jobs that were.

    Raises:
        UserError: the key is given by the environment, which nobody can change from here.
    """
    if VARIABLE in os.environ:
        raise UserError(
            f"{VARIABLE} is set: the key is not a file's.", "Unset it, and put the old key into the data folder's file."
        )
    old, new = Sealer(load_key(data_dir)), Fernet.generate_key().decode()
    sealed = {job_id: old.open(text) for job_id, text in records.lists.sealed_specs().items()}
    # The new key is on the disk before anything is sealed with it, the old one until all is.
    pending = data_dir / f"{FILE_NAME}.new"
    write_key(pending, new)
    records.reseal({job_id: Sealer(new).seal(text) for job_id, text in sealed.items()})
    pending.rename(data_dir / FILE_NAME)
    return len(sealed)
