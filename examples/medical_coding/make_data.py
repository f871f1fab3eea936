"""Write the data of this example: `python make_data.py --out data --seed 0`. The same seed gives the same bytes.

Five files, no code in more than one of them: train.jsonl, validation.jsonl, demonstrations.jsonl; test.jsonl, which is
for the one measurement at the end; and good.jsonl, right transcripts for a better start. The statistics that are logged
say how much there is to learn: how often each way of writing the query finds the right code.
"""

import argparse
import json
import logging
import random
from pathlib import Path
from typing import Any

from demonstrations import demonstrate, demonstrate_well, with_surrounding_words
from search_index import HITS_SHOWN, SearchIndex, load_index
from terms import Diagnosis, choose
from transcripts import prompt_messages, write_transcript

SIZES = {"train": 200, "validation": 120, "demonstrations": 110}
TEST_SIZE = 240
GOOD_SIZE = 330
FOUND_SHARE = 0.87

logger = logging.getLogger("make_data")


def write_data(out: Path, seed: int) -> None:
    """Write the files into `out`, which is created."""
    index = load_index()
    generator = random.Random(seed)
    diagnoses = choose(index, sum(SIZES.values()), found_share=FOUND_SHARE, chooser=generator)
    transcripts = [write_transcript(diagnosis.term, generator) for diagnosis in diagnoses]
    if logger.isEnabledFor(logging.INFO):
        _log_statistics(index, list(zip(diagnoses, transcripts, strict=True)), random.Random(seed))
    out.mkdir(parents=True, exist_ok=True)
    start = 0
    for name, size in SIZES.items():
        chosen = zip(diagnoses[start : start + size], transcripts[start : start + size], strict=True)
        if name == "demonstrations":
            rows = [_row(one, demonstrate(one, transcript, index, generator)) for one, transcript in chosen]
        else:
            rows = [_row(one, prompt_messages(transcript)) for one, transcript in chosen]
        _write(out / f"{name}.jsonl", rows)
        start += size
    used = {diagnosis.code for diagnosis in diagnoses}
    # Drawn by generators of their own, so that the other files are the same without them.
    generator = random.Random(f"{seed}/test")
    tested = choose(index, TEST_SIZE, found_share=FOUND_SHARE, chooser=generator, without=used)
    _write(out / "test.jsonl", [_row(d, prompt_messages(write_transcript(d.term, generator))) for d in tested])
    used |= {diagnosis.code for diagnosis in tested}
    generator = random.Random(f"{seed}/good")
    shown = choose(index, GOOD_SIZE, found_share=1.0, chooser=generator, without=used)
    rows = [_row(d, demonstrate_well(d, write_transcript(d.term, generator), index)) for d in shown]
    _write(out / "good.jsonl", rows)


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _row(diagnosis: Diagnosis, messages: list[dict[str, Any]]) -> dict[str, Any]:
    return {"messages": messages, "answer": diagnosis.code, "term": diagnosis.term}


def _log_statistics(index: SearchIndex, rows: list[tuple[Diagnosis, str]], generator: random.Random) -> None:
    queries = {
        "the bare term": [diagnosis.term for diagnosis, _ in rows],
        "the term's first two words": [" ".join(diagnosis.term.split()[:2]) for diagnosis, _ in rows],
        "the term and words around it": [with_surrounding_words(d.term, text, generator) for d, text in rows],
        "the whole transcript": [transcript for _, transcript in rows],
    }
    for wording, texts in queries.items():
        results = [[hit.code for hit in index.search(text)] for text in texts]
        pairs = [(codes, diagnosis.code) for codes, (diagnosis, _) in zip(results, rows, strict=True)]
        among = sum(code in codes for codes, code in pairs) / len(rows)
        first = sum(codes[:1] == [code] for codes, code in pairs) / len(rows)
        logger.info(
            "%-29s right code in the %d hits: %.0f %%, first: %.0f %%", wording, HITS_SHOWN, among * 100, first * 100
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "data")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    logger.setLevel(logging.INFO)
    write_data(arguments.out, arguments.seed)


if __name__ == "__main__":
    main()
