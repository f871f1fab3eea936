"""What the quickstart's model can learn to read: how well it tells the right one of a search's hits from the others.

    python -m benchmarks.reading [--examples 1200] [--in-order] [--rank 16] [--learning-rate 5e-4] [--seed 0]

A ceiling for reinforcement on the same samples. The model is trained on the last turns of the training samples, with
the right answer given: one search with the bare term, and the hits in another order each time, so that no place is
right more often than another (`--in-order` leaves them as the tool gives them). Then, on test samples, in the tool's
order, the log-probability of each hit is taken. A policy that has taken to the first hit is one whose first hit got a
bonus: for each bonus it is told how often the right one is sampled, where it is the first and where it is a later one.
"""

import argparse
import json
import math
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from agentrft.chat import ChatCodec, load_codec
from agentrft.learner import Learner, Policy, TrainingRow
from agentrft.models import resolve_model
from agentrft.models.load import dtype_on, load_model, load_tokenizer_and_texts
from agentrft.models.planned import use_planned_attention
from agentrft.report.averages import mean
from benchmarks.agent import data_folder, job
from benchmarks.harness import machine, report
from examples.medical_coding.search_index import format_hits, load_index

BATCH = 8
BONUSES = (0.0, 1.0, 2.0, 3.0)


@dataclass(frozen=True)
class LastTurn:
    """A sample whose right code is among the hits of its bare term."""

    messages: list[dict[str, Any]]
    lines: list[str]
    codes: list[str]
    place: int

    def asked(self, order: Sequence[int], answer: str) -> list[dict[str, Any]]:
        """The conversation with the hits in this order, and an answer."""
        result = {"role": "tool", "tool_call_id": "call_0", "content": "\n".join(self.lines[place] for place in order)}
        return [*self.messages, result, {"role": "assistant", "content": answer}]


def last_turns(path: Path) -> list[LastTurn]:
    """Of a file of the quickstart's."""
    index, found = load_index(), []
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        hits = index.search(row["term"])
        codes = [hit.code for hit in hits]
        if row["answer"] in codes:
            function = {"name": "search", "arguments": json.dumps({"query": row["term"]})}
            call = {"id": "call_0", "type": "function", "function": function}
            messages = [*row["messages"], {"role": "assistant", "content": "", "tool_calls": [call]}]
            found.append(LastTurn(messages, format_hits(hits).split("\n"), codes, codes.index(row["answer"])))
    return found


class Reader:
    """The model, and how it is asked."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        raw = job()
        source = resolve_model(raw["model"])
        tokenizer, _ = load_tokenizer_and_texts(source)
        self._codec: ChatCodec = load_codec(tokenizer, source.path_or_id, template_kwargs={})
        (tool,) = raw["method"]["reinforcement"]["tools"]
        schema = {name: tool[name] for name in ("name", "description", "parameters")}
        self._tools = [{"type": "function", "function": schema}]
        model = load_model(source, dtype_on(torch.device("cpu"), "auto"))
        model.requires_grad_(False)
        use_planned_attention(model)
        self.learner = Learner(
            Policy(model, lora_rank=arguments.rank, seed=arguments.seed, generates=False),
            algorithm="grpo",
            temperature=1.0,
            learning_rate=arguments.learning_rate,
            max_grad_norm=1.0,
            warm_up_steps=4,
            decay_steps=arguments.examples // BATCH,
        )

    def row(self, turn: LastTurn, order: Sequence[int], answer: str, index: int) -> TrainingRow:
        """Of which the answer alone is learned."""
        ((ids, mask),) = self._codec.training_rows(turn.asked(order, answer), self._tools)
        end = max(place for place, sampled in enumerate(mask) if sampled) + 1
        start = end
        while mask[start - 1]:
            start -= 1
        return TrainingRow(ids[:end], list(range(start, end)), [0.0] * (end - start), index)

    def scores(self, turn: LastTurn) -> list[float]:
        """Of each hit, in the tool's order, the log-probability of answering with it."""
        order = range(len(turn.lines))
        rows = [self.row(turn, order, code, place) for place, code in enumerate(turn.codes)]
        # As `logprobs` has them, whatever the order that they are given in.
        rows.sort(key=lambda row: row.token_ids)
        parts = self.learner.logprobs(rows).split([len(row.sampled_positions) for row in rows])
        found = {row.rollout: float(part.sum()) for row, part in zip(rows, parts, strict=True)}
        return [found[place] for place in order]


def exact(turns: Sequence[LastTurn], scores: Sequence[list[float]], bonus: float) -> dict[str, float]:
    """How often the right hit is sampled if the first has a bonus in its log-odds, in nats."""
    first: list[float] = []
    later: list[float] = []
    for turn, own in zip(turns, scores, strict=True):
        odds = [math.exp(score + (bonus if place == 0 else 0.0)) for place, score in enumerate(own)]
        # What is none of the hits keeps its probability.
        other = max(0.0, 1 - sum(map(math.exp, own)))
        (first if turn.place == 0 else later).append(odds[turn.place] / (sum(odds) + other))
    return {"first": round(mean(first), 3), "later": round(mean(later), 3), "all": round(mean([*first, *later]), 3)}


def in_turn(turns: Sequence[LastTurn], draw: random.Random) -> Iterator[LastTurn]:
    """Epoch after epoch, each in another order."""
    while True:
        yield from draw.sample(list(turns), len(turns))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=1200)
    parser.add_argument("--in-order", action="store_true")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--test-rows", type=int, default=1000)
    arguments = parser.parse_args()
    draw, reader = random.Random(arguments.seed), Reader(arguments)
    train, test = (last_turns(data_folder() / f"{name}.jsonl") for name in ("train", "test"))
    test = test[: arguments.test_rows]
    coming = in_turn(train, draw)
    for step in range(arguments.examples // BATCH):
        rows = []
        for index in range(BATCH):
            turn = next(coming)
            order = list(range(len(turn.lines)))
            if not arguments.in_order:
                draw.shuffle(order)
            rows.append(reader.row(turn, order, turn.codes[turn.place], index))
        found = reader.learner.supervised_update(rows)
        print(f"{(step + 1) * BATCH} examples: loss {found.loss:.3f}", file=sys.stderr, flush=True)
    scores = [reader.scores(turn) for turn in test]
    summary = {
        "train_samples": len(train),
        "test_samples": len(test),
        "test_first": sum(turn.place == 0 for turn in test),
        **{f"bonus_{bonus:g}": exact(test, scores, bonus) for bonus in BONUSES},
    }
    report("reading", {"machine": machine(2), "arguments": vars(arguments), "summary": summary})


if __name__ == "__main__":
    main()
