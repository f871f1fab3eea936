"""The data folder is its owner's: prompts, answers and weights are nobody else's to read."""

import logging
import os
import stat
from pathlib import Path

logger = logging.getLogger(__name__)

PRIVATE_UMASK = 0o077
OTHERS = 0o077


def make_private() -> None:
    """What this process and its children make from now on is only its user's."""
    os.umask(PRIVATE_UMASK)


def keep_private(data_dir: Path) -> None:
    """Take the rights of all other users away from a data folder, and from what an older version made in it.

    The folder is made if it is not there.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    # Also where it is a link: that it leads here is what the user said.
    data_dir = data_dir.resolve()
    # The folder last: what a kill left half done is done by the next start.
    for folder, _, names in os.walk(data_dir, topdown=False):
        for name in names:
            _close(Path(folder) / name)
        _close(Path(folder))


def _close(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
        # A link leads to where the user said, which is not ours to change.
        if not stat.S_ISLNK(mode) and mode & OTHERS:
            path.chmod(stat.S_IMODE(mode) & ~OTHERS)
    except FileNotFoundError:
        pass  # deleted meanwhile, by a worker or another server
    except OSError as error:
        logger.warning("%s stays readable by others: %s", path, error.strerror)
