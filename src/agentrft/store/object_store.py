"""A place below a URL that fsspec knows, such as `s3://bucket/prefix`. What fails is tried again for a while."""

import logging
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import fsspec
from fsspec.config import set_conf_env

from agentrft.errors import ArtifactsError, UserError

logger = logging.getLogger(__name__)

T = TypeVar("T")

FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 15.0
# boto's own time-outs and repetitions would add up to minutes for one call.
S3_CONFIG = {"connect_timeout": 5, "read_timeout": 60, "retries": {"total_max_attempts": 1}}
S3 = ("s3", "s3a")
# They have no folders to be made.
BUCKETS = (*S3, "gs", "gcs", "abfs", "abfss", "az")
SECRET_NAME = re.compile(r"KEY|SECRET|TOKEN|PASSWORD|CREDENTIAL", re.IGNORECASE)
REMEDY = "See that it runs, that its address is right (AWS_ENDPOINT_URL), and that the credentials may read and write."


class ObjectStore:
    """Objects by their keys, below a URL. It connects with the first call. Safe across threads.

    Args:
        environment: variables that the driver reads, credentials for example; they are in the process's environment
            while it connects, and no longer.
        patience_s: for how long a call is tried again.

    Raises:
        UserError: the URL is of no kind that fsspec knows, or its driver is not installed.
    """

    def __init__(self, url: str, *, environment: Mapping[str, str] | None = None, patience_s: float) -> None:
        self._environment = dict(environment or {})
        self._secrets = [value for name, value in self._environment.items() if SECRET_NAME.search(name) and value]
        self._patience_s = patience_s
        self.shown = re.sub(r"//[^/@]*@", "//", url.partition("?")[0])
        self._protocol = url.partition("://")[0] if "://" in url else "file"
        try:
            kind = fsspec.get_filesystem_class(self._protocol)
        except ImportError as error:
            raise UserError(
                f"--artifacts {self.shown}: its driver is not installed: {error}.",
                "Run `pip install 'agentrft[s3]'`." if self._protocol in S3 else "Install the package that it names.",
            ) from error
        except ValueError as error:
            raise UserError(f"--artifacts {self.shown}: {error}.", "Write s3://bucket/prefix, or a folder.") from error
        self._kind = kind
        self._root = kind._strip_protocol(url).rstrip("/")
        self._filesystem: Any = None
        self._is_connected = False
        self._connecting = threading.Lock()

    def put(self, path: Path, key: str) -> None:
        place = self._place(key)

        def put(filesystem: Any) -> None:
            self._make_folder(filesystem, place)
            filesystem.put_file(str(path), place)

        self._written(f"{key} could not be stored", put)

    def write(self, key: str, content: bytes) -> None:
        place = self._place(key)

        def write(filesystem: Any) -> None:
            self._make_folder(filesystem, place)
            filesystem.pipe_file(place, content)

        self._written(f"{key} could not be stored", write)

    def get(self, key: str, path: Path) -> None:
        """Raises FileNotFoundError if there is no such object."""
        self._tried(f"{key} could not be read", lambda filesystem: filesystem.get_file(self._place(key), str(path)))

    def read(self, key: str) -> bytes | None:
        """The content of a small object; None if there is none."""
        try:
            return self._tried(f"{key} could not be read", lambda filesystem: filesystem.cat_file(self._place(key)))
        except FileNotFoundError:
            return None

    def remove(self, key: str, *, below: bool = False) -> None:
        """Remove an object, or all `below` its key. What is not there need not be removed."""
        place = self._place(key)
        try:
            self._tried(
                f"{key} could not be deleted",
                lambda filesystem: filesystem.rm(place, recursive=True) if below else filesystem.rm_file(place),
            )
        except FileNotFoundError:
            pass

    def entries(self, key: str) -> dict[str, float]:
        """Names directly below a key, and since when they are there, in seconds since the epoch (0: unknown)."""
        try:
            found = self._tried(
                f"{key} could not be listed",
                lambda filesystem: filesystem.ls(self._place(key), detail=True, refresh=True),
            )
        except FileNotFoundError:
            return {}
        return {str(one["name"]).rstrip("/").rpartition("/")[2]: _seconds(one) for one in found}

    # --- inside

    def _place(self, key: str) -> str:
        return f"{self._root}/{key}"

    def _make_folder(self, filesystem: Any, place: str) -> None:
        if self._protocol not in BUCKETS:
            filesystem.makedirs(place.rpartition("/")[0], exist_ok=True)

    def _written(self, what: str, work: Callable[[Any], T]) -> T:
        try:
            return self._tried(what, work)
        except FileNotFoundError as error:
            raise self._error(what, error, "Make the bucket, or name another one.") from error

    def _tried(self, what: str, work: Callable[[Any], T]) -> T:
        """The result of a call, which is repeated until it comes, or patience ends.

        Raises:
            ArtifactsError: with the last cause.
            FileNotFoundError: that is an answer.
        """
        until, wait_s = time.monotonic() + self._patience_s, FIRST_WAIT_S
        while True:
            try:
                return self._call(work)
            except FileNotFoundError:
                raise
            except PermissionError as error:
                raise self._error(what, error, REMEDY) from error
            except Exception as error:  # drivers let through whatever their libraries raise
                if time.monotonic() + wait_s > until:
                    raise self._error(what, error, REMEDY) from error
                logger.warning("%s: %s, which is tried again: %s", self.shown, what, self._said(error))
            time.sleep(wait_s * random.uniform(0.5, 1.0))
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    def _call(self, work: Callable[[Any], T]) -> T:
        """Drivers read their credentials with the first call that is answered."""
        if self._is_connected:
            return work(self._filesystem)
        with self._connecting, _lent(self._environment):
            if self._filesystem is None:
                self._filesystem = self._open()
            try:
                result = work(self._filesystem)
            except FileNotFoundError:
                self._is_connected = True
                raise
            self._is_connected = True
            return result

    def _open(self) -> Any:
        configured: dict[str, dict[str, Any]] = {}
        set_conf_env(configured)
        options = configured.get(self._protocol, {})
        if self._protocol in S3:
            options["config_kwargs"] = {**S3_CONFIG, **options.get("config_kwargs", {})}
        filesystem: Any = self._kind(**options, use_listings_cache=False, skip_instance_cache=True)
        if self._protocol in S3:
            # It would try five times by itself, with waits of its own.
            filesystem.retries = 1
        return filesystem

    def _error(self, what: str, error: Exception, remedy: str) -> ArtifactsError:
        return ArtifactsError(f"{self.shown}: {what}: {self._said(error)}.", remedy)

    def _said(self, error: Exception) -> str:
        text = str(error) or type(error).__name__
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text.rstrip(".")


@contextmanager
def _lent(environment: Mapping[str, str]) -> Iterator[None]:
    """Variables that are in the environment for a moment; those that are there already stay."""
    added = {name: value for name, value in environment.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _seconds(info: Mapping[str, Any]) -> float:
    for name in ("LastModified", "mtime", "created", "updated", "last_modified"):
        value = info.get(name)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
    return 0.0
