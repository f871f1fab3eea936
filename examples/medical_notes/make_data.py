"""Write the data: `python -m examples.medical_notes.make_data`. The same seed and difficulty give the same bytes.

Four files, no category of codes in more than one of them: train.jsonl, validation.jsonl, test.jsonl for the one
measurement at the end, and demonstrations.jsonl for the warm start. What scripted agents score on the test rows is
printed after that.
"""

import argparse
import json
import random
from pathlib import Path
from typing import Any

from examples.medical_coding.search_index import SearchIndex
from examples.medical_notes.codes import CodeSet, deal_out, load_codes
from examples.medical_notes.conversation import Conversation
from examples.medical_notes.demonstrations import demonstrate
from examples.medical_notes.difficulty import DIFFICULTIES
from examples.medical_notes.notes import Note, write_note
from examples.medical_notes.policies import score_table
from examples.medical_notes.search import SearchTool, load_index

SIZES = {"train": 200, "validation": 120, "test": 240, "demonstrations": 320}
SYSTEM_PROMPT = (
    "Code this visit note. Search ICD-10-CM for each diagnosis that the patient has now; leave out what is denied, "
    "ruled out, suspected, past or in the family. Answer with the codes only, one per line."
)


def write_data(out: Path, seed: int, difficulty: str = "small", codes: CodeSet | None = None) -> None:
    """Write the files into `out`, which is created.

    Args:
        out: a folder.
        seed: of all that is drawn.
        difficulty: a level of `DIFFICULTIES`.
        codes: the code set; by default the whole one that is installed.
    """
    level = DIFFICULTIES[difficulty]
    codes = codes or load_codes()
    # Keywords alone, so that the data do not depend on whether the model for embeddings is installed.
    index = SearchIndex(codes.hits)
    names = deal_out(codes, index, hits_shown=level.hits_shown, found_share=level.found_share, seed=seed)
    out.mkdir(parents=True, exist_ok=True)
    for split, size in SIZES.items():
        writer = random.Random(f"{seed}/{split}")
        rows = [_row(write_note(names[split], level, writer), difficulty) for _ in range(size)]
        if split == "demonstrations":
            rows = _demonstrated(rows, SearchTool(index), seed)
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (out / f"{split}.jsonl").write_text(text, encoding="utf-8")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of one of the files."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _row(note: Note, difficulty: str) -> dict[str, Any]:
    findings = [
        {
            "code": finding.diagnosis.code,
            "term": finding.diagnosis.term,
            "kind": finding.kind,
            "sentence": finding.sentence,
        }
        for finding in note.findings
    ]
    return {
        "messages": [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": note.text}],
        "answer": [finding.diagnosis.code for finding in note.coded],
        "findings": findings,
        "difficulty": difficulty,
    }


def _demonstrated(rows: list[dict[str, Any]], tool: SearchTool, seed: int) -> list[dict[str, Any]]:
    script = random.Random(f"{seed}/script")
    shown: list[dict[str, Any]] = []
    for number, row in enumerate(rows):
        conversation = Conversation(row, tool, f"trace_demonstration_{seed}_{number}")
        demonstrate(row, conversation, script)
        shown.append({**row, "messages": conversation.messages})
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "data")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--difficulty", choices=DIFFICULTIES, default="small")
    parser.add_argument("--search", choices=["bm25", "hybrid"], default="bm25", help="of the table, not of the data")
    arguments = parser.parse_args()
    codes = load_codes()
    write_data(arguments.out, arguments.seed, arguments.difficulty, codes)
    tool = SearchTool(load_index(codes.hits, arguments.search))
    print(score_table(read_rows(arguments.out / "train.jsonl"), read_rows(arguments.out / "test.jsonl"), tool))


if __name__ == "__main__":
    main()
