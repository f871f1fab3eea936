"""Packing weights in a process of its own: `python -m agentrft.server.models.archive`.

What to pack comes as a line of JSON on standard input: `folder`, and `out`, the file to write.
"""

import zipfile
from pathlib import Path

from agentrft.server.offload.child import Told


def main() -> None:
    told = Told()
    for request in told:
        pack(Path(request["folder"]), Path(request["out"]))
        told.answer(None)


def pack(folder: Path, out: Path) -> None:
    """The files of a folder, as they are: weights do not get smaller by compression."""
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for one in sorted(folder.glob("[!.]*")):
            archive.write(one, one.name)


if __name__ == "__main__":
    main()
