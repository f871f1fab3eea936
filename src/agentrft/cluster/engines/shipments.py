"""What a job's process has written, in Ray's object store, for machines that do not see its disk."""

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# A machine holds no more of a file in memory than this, beside what the object store does.
PIECE_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Shipment:
    """A folder in the object store.

    Attributes:
        name: of no other one of the job.
        files: by their paths in the folder, each as references to its pieces, in order.
    """

    name: str
    files: Sequence[tuple[str, Sequence[Any]]]


class Shipments:
    """Folders in the object store, each once, however many machines are sent it: the newest one stays there. Ray moves
    it from machine to machine, and to the disk of one whose store is full.
    """

    def __init__(self) -> None:
        self._making = threading.Lock()
        self._made = 0
        self._folder: Path | None = None
        self._newest: Shipment | None = None

    async def of(self, folder: Path) -> Shipment:
        """Of a folder that nothing is written to any more. Raises FileNotFoundError for one that is gone."""
        return await asyncio.to_thread(self._of, folder)

    def _of(self, folder: Path) -> Shipment:
        with self._making:
            if self._newest is None or self._folder != folder:
                shipped = _ship(folder)
                self._made += 1
                self._folder, self._newest = folder, Shipment(f"weights-{self._made}", shipped)
            return self._newest


def _ship(folder: Path) -> list[tuple[str, list[Any]]]:
    import ray

    if not folder.is_dir():
        raise FileNotFoundError(folder)
    shipped: list[tuple[str, list[Any]]] = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        pieces: list[Any] = []
        with file.open("rb") as read:
            while piece := read.read(PIECE_BYTES):
                pieces.append(ray.put(piece))
        shipped.append((str(file.relative_to(folder)), pieces))
    return shipped
