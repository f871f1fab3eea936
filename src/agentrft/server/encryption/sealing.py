"""Encryption of what a job needs and nobody may read: header values, keys, URLs with passwords.

The key is in the environment, or in a file that only its owner can read, never in the database.
"""

import os
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from agentrft.errors import UserError

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
                f"{VARIABLE} or {FILE_NAME}: not a key.",
                KEY_REMEDY,
            ) from error

    def seal(self, text: str) -> str:
        return self._fernet.encrypt(text.encode()).decode()

    def opens(self, sealed: str) -> bool:
        """Whether it was sealed with this key."""
        try:
            self._fernet.decrypt(sealed.encode())
        except InvalidToken:
            return False
        return True

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
    return read_key(path)


def read_key(path: Path) -> str:
    """Raises UserError if others could read the file."""
    if path.stat().st_mode & 0o077:
        raise UserError(f"{path}: others can read it.", f"Run `chmod 600 {path}`.")
    return path.read_text().strip()


def write_key(path: Path, key: str) -> None:
    """Write a key file with mode 0600, whole or not at all; it is on the disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(handle, "w") as file:
        file.write(key + "\n")
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Names that were given before are on the disk when this returns."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
