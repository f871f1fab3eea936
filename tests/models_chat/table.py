"""docs/models.md's table: made of what `make test-models` saw of chat, and of what is known of architectures.

python -m tests.models_chat.table
"""

import json
from pathlib import Path
from typing import Any

from tests.models_chat.families import FAMILIES, OURS

ROOT = Path(__file__).parents[2]
SEEN = ROOT / "build" / "models_chat"
CHAT = ROOT / "docs" / "models_chat.json"
# For each `model_type`, columns by their names.
ARCHITECTURES = ROOT / "docs" / "models_architectures.json"
PAGE = ROOT / "docs" / "models.md"
# Of the table of architectures, which has more.
_COLUMNS = ("path", "tree", "engine")
# Kinds of turns that are not named one by one.
_MANY = 2
BEGIN, END = "<!-- made by make test-models -->", "<!-- until here -->"


def join() -> None:
    """One file of what was seen of each family; all of them have to be there.

    Raises:
        SystemExit: of some family nothing was seen, since it failed.
    """
    seen = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(SEEN.glob("*.json"))]
    if [one["family"] for one in seen] != [family.name for family in FAMILIES]:
        raise SystemExit("Some families failed: the table stays as it is.")
    CHAT.write_text(json.dumps(seen, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def made() -> str:
    """The table, in Markdown."""
    families: list[dict[str, Any]] = json.loads(CHAT.read_text(encoding="utf-8"))
    known: dict[str, dict[str, str]] = {}
    if ARCHITECTURES.exists():
        known = json.loads(ARCHITECTURES.read_text(encoding="utf-8"))
    columns = [column for column in _COLUMNS if any(column in one for one in known.values())]
    head = ["family", "models", "codec", "proven", "new row", "calls", "warm start", "thinks", *columns]
    rows = [[*_chat(one), *_of_architectures(one["architectures"], known, columns)] for one in families]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _chat(one: dict[str, Any]) -> list[str]:
    name = one["family"] + (" ¹" if one["template"] == OURS else "")
    proven = "yes" if one["proven"] else "no: " + "; ".join(one["unproven"])
    thinks = "yes" if one["thinks"] else "no"
    calls = f"`{one['call_format']}`"
    return [name, one["models"], one["codec"], proven, _new_rows(one["forks"]), calls, one["warm_start"], thinks]


def _new_rows(forks: list[str]) -> str:
    """In what situations a new row begins, by what follows: what the turn was, or that it is one of many kinds."""
    found: dict[str, list[str]] = {}
    for fork in forks:
        turn, _, follows = fork.removeprefix("after ").partition(", ")
        found.setdefault(follows, []).append(turn)
    said = [f"{follows}, after {_kinds(turns)}" for follows, turns in found.items()]
    return "; ".join(said) or "never"


def _kinds(turns: list[str]) -> str:
    if all(turn.startswith("several calls") for turn in turns):
        return "several calls"
    return "most turns" if len(turns) > _MANY else ", ".join(turns)


def _of_architectures(names: list[str], known: dict[str, dict[str, str]], columns: list[str]) -> list[str]:
    """What holds for each of a family's architectures: once where it is the same for all."""
    cells: list[str] = []
    for column in columns:
        said = {name: known[name].get(column, "") for name in names if name in known}
        same = len(set(said.values())) == 1
        cells.append(next(iter(said.values())) if same else "; ".join(f"{name}: {one}" for name, one in said.items()))
    return cells


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def rewrite(page: str) -> str:
    """The page with the table as it is made now."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{made()}\n{END}{after}"


if __name__ == "__main__":
    if SEEN.exists():
        join()
    PAGE.write_text(rewrite(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
