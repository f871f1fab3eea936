"""The four tools as HTTP endpoints: `python -m examples.finance.tools --port 8770`.

They serve the corpus of `data/` beside this file, or of the folder that `--data` names.
The app also answers `/grade` as an endpoint grader, with the sub-scores that a python grader cannot return.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from fastapi import FastAPI

from examples.common.grader_server import add_grader
from examples.common.tool_server import BadArguments, Call, Tool, serve, tool_app
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

    def list_sections(call: Call) -> str:
        filing = by_name.get(call.text("company").strip().lower())
        if filing is None:
            raise BadArguments("there is no such company: give its code or its name")
        return "\n".join(f"{section.id} {section.title}, {section.item}" for section in filing.sections)

    def search(call: Call) -> str:
        return index.answer(call.text("query"))

    def cat(call: Call) -> str:
        section = sections.get(call.text("id").strip().upper())
        if section is None:
            raise BadArguments(UNKNOWN)
        return section.text

    def calculator(call: Call) -> str:
        try:
            return shown(calculate(call.text("expression")))
        except CannotCalculate as error:
            raise BadArguments(str(error)) from None

    return {"list": list_sections, "search": search, "cat": cat, "calculate": calculator}


def finance_app(folder: Path) -> FastAPI:
    """The tools over the corpus of a folder that `make_data` or a loader wrote."""

    def load() -> Mapping[str, Tool]:
        return make_tools(load_corpus(folder / CORPUS))

    app = tool_app("Filings", load)

    add_grader(app, grader.grade, grader.sub_scores)
    return app


def main() -> None:
    serve(_app, port=PORT, data=HERE / "data")


def _app(given: argparse.Namespace) -> FastAPI:
    if not (given.data / CORPUS).exists():
        raise SystemExit(f"There is no {given.data / CORPUS}: run `python -m examples.finance.make_data` first.")
    return finance_app(given.data)


if __name__ == "__main__":
    main()
