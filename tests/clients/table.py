"""The tables of docs/migrate-from-openai.md, made of what clients check: `python -m tests.clients.table` writes it."""

from tests.clients.checks import Row, all_checks
from tests.clients.sdk import ROOT

DOCUMENT = ROOT / "docs/migrate-from-openai.md"
BEGIN = "<!-- made by `make test-clients`: each row is what a client in tests/clients checks; change it there -->"
END = "<!-- end of what is made -->"
SECTIONS = {
    "create": "`fine_tuning.jobs.create`",
    "method": "`method.reinforcement`",
    "hyperparameters": "`hyperparameters`",
    "tuning": "`method.supervised`, `method.dpo`",
    "graders": "Graders",
    "tools": "Tools",
    "rows": "Rows",
    "files": "`files`, `uploads`",
    "jobs": "`fine_tuning.jobs`: the job object and what is done with it",
    "events": "`fine_tuning.jobs.list_events`",
    "results": "The result file",
    "checkpoints": "`fine_tuning.jobs.checkpoints`, `models`",
    "grader_runs": "`fine_tuning.alpha.graders`",
    "evals": "`evals`",
    "chat": "`chat.completions`",
    "responses": "`responses`",
    "azure": "Azure's clients",
    "errors": "Errors",
}
STATES = {"same": "same", "differs": "", "ignored": "ignored with a warning", "refused": "refused"}


def render() -> str:
    """The tables, a heading and a table for each section that has rows."""
    rows: dict[str, list[Row]] = {section: [] for section in SECTIONS}
    for one in all_checks():
        for row in one.rows:
            rows[row.section].append(row)
    parts = []
    for section, title in SECTIONS.items():
        if rows[section]:
            # What a reader has to know first: where something is not the same.
            ordered = sorted(rows[section], key=lambda row: row.state == "same")
            lines = [f"| {row.field} | {row.hosted} | {answer(row)} |" for row in ordered]
            parts.append("\n".join([f"### {title}", "| | hosted | here |", "|---|---|---|", *lines]))
    return "\n\n".join(parts)


def answer(row: Row) -> str:
    """The last cell."""
    return ": ".join(part for part in (STATES[row.state], row.here) if part)


def rewritten(text: str) -> str:
    """The document with its tables made anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{render()}\n\n{END}{after}"


if __name__ == "__main__":
    DOCUMENT.write_text(rewritten(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
