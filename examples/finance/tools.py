"""The four tools as HTTP endpoints: `python -m examples.finance.tools --port 8770`.

They serve the corpus of the folder that the environment variable FINANCE_DATA names, else `data/` beside this file.
The app also answers `/grade` as an endpoint grader, with the sub-scores that a python grader cannot return.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from examples.common.tool_server import BadArguments, Tool, serve, text_argument, tool_app
from examples.finance import grader
from examples.finance.calculator import CannotCalculate, calculate, shown
from examples.finance.corpus import Filing, load_corpus
from examples.finance.search_index import SearchIndex

HERE = Path(__file__).parent
PORT = 8770
CORPUS = "corpus.jsonl"
HITS = 4
UNKNOWN = "there is no such section: take an id from search or list"


def make_tools(filings: Sequence[Filing], hits: int = HITS) -> dict[str, Tool]:
    """The tools over some filings. No error repeats what it was given: a grader counts what tools said as read.

    Args:
        hits: sections that a search shows at most.
    """
    index = SearchIndex(filings, hits)
    sections = {section.id: section for filing in filings for section in filing.sections}
    by_name = {name.lower(): filing for filing in filings for name in (filing.code, filing.company)}

    def list_sections(arguments: dict[str, Any], trace_id: str) -> str:
        filing = by_name.get(text_argument(arguments, "company").strip().lower())
        if filing is None:
            raise BadArguments("there is no such company: give its code or its name")
        return "\n".join(f"{section.id} {section.title}, {section.item}" for section in filing.sections)

    def search(arguments: dict[str, Any], trace_id: str) -> str:
        return index.answer(text_argument(arguments, "query"))

    def cat(arguments: dict[str, Any], trace_id: str) -> str:
        section = sections.get(text_argument(arguments, "id").strip().upper())
        if section is None:
            raise BadArguments(UNKNOWN)
        return section.text

    def calculator(arguments: dict[str, Any], trace_id: str) -> str:
        try:
            return shown(calculate(text_argument(arguments, "expression")))
        except CannotCalculate as error:
            raise BadArguments(str(error)) from None

    return {"list": list_sections, "search": search, "cat": cat, "calculate": calculator}


def finance_app(folder: Path) -> FastAPI:
    """The tools over the corpus of a folder that `make_data` or a loader wrote."""

    def load() -> Mapping[str, Tool]:
        return make_tools(load_corpus(folder / CORPUS))

    app = tool_app("Filings", load)

    @app.post("/grade")
    def grade(request: dict[str, Any]) -> dict[str, Any]:
        sample, item = request["sample"], request["item"]
        return {"score": grader.grade(sample, item), "sub_scores": grader.sub_scores(sample, item)}

    return app


def main() -> None:
    folder = Path(os.environ.get("FINANCE_DATA", HERE / "data"))
    if not (folder / CORPUS).exists():
        raise SystemExit(f"There is no {folder / CORPUS}: run `python -m examples.finance.make_data` first.")
    serve(finance_app(folder), PORT)


if __name__ == "__main__":
    main()
