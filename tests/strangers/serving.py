"""`python -m tests.strangers.serving FOLDER`: a server that runs no jobs, so that only what comes in is at work."""

import sys
from pathlib import Path

from agentrft.server.serve import serve
from agentrft.server.settings import Settings

if __name__ == "__main__":
    serve(Settings(Path(sys.argv[1]), max_running_jobs=0), host="127.0.0.1", port=0)
