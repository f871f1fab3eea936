"""The tool `search` as an HTTP endpoint: `python -m examples.medical_notes.tools --port 8770`.

The same server grades at `/grade`, for a job with an endpoint grader: it gives precision and recall beside the score.

`--search hybrid` adds sentence embeddings to the keywords, where the package with the model is installed
(`embeddings.py`); the log says which search runs.
"""

import argparse
import logging
from collections.abc import Mapping
from pathlib import Path

from fastapi import FastAPI

from examples.common.grader_server import add_grader
from examples.common.tool_server import Tool, serve, tool_app
from examples.medical_notes import grader
from examples.medical_notes.codes import CodeSet, load_codes
from examples.medical_notes.search import SearchTool, load_index

logger = logging.getLogger(__name__)


def make_app(search: str = "bm25", codes: CodeSet | None = None) -> FastAPI:
    """The app; its index is built when it starts, of the whole installed code set unless another one is given.

    Args:
        search: "bm25" or "hybrid".
        codes: the code set.
    """

    def load() -> Mapping[str, Tool]:
        index = load_index((codes or load_codes()).hits, search)
        logger.info("The search is a %s.", type(index).__name__)
        return {"search": SearchTool(index)}

    app = tool_app("ICD-10-CM search", load)

    add_grader(app, grader.grade, grader.sub_scores)
    return app


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--search", choices=["bm25", "hybrid"], default="bm25")
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    # What the tool answers from is the installed code set: the server needs no data.
    serve(lambda given: make_app(given.search), port=8770, data=Path("data"), options=options)


if __name__ == "__main__":
    main()
