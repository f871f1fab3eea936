"""What has to hold of a codec in every conversation: tokens in, tokens out."""

import itertools
import json
import random
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerFast

from agentrft.chat import ChatCodec
from agentrft.chat.proof import continues
from tests.chat.test_token_exactness import split_a_token
from tests.models_chat.conversations import TOOLS

Row = tuple[list[int], list[bool]]


@dataclass
class Tally:
    """How often what was seen."""

    turns: int = 0
    appended: int = 0
    forked: int = 0


class Checker:
    """Plays conversations through a codec, as a rollout and as a warm start have them."""

    def __init__(self, codec: ChatCodec, tokenizer: PreTrainedTokenizerFast, draw: random.Random) -> None:
        self.codec, self.draw = codec, draw
        self._tokenizer = tokenizer
        self.tally = Tally()

    def check(self, given: list[dict[str, Any]]) -> None:
        """One conversation.

        Raises:
            AssertionError: something of it does not hold.
        """
        messages = self.codec.demonstration(given)
        sampled_rows: list[Row] = []
        row: Row | None = None
        for turn in (index for index, message in enumerate(messages) if message["role"] == "assistant"):
            prompt = row or _context(self.codec.prompt_ids(messages[:turn], TOOLS))
            sampled = self.codec.sampled_ids(messages, turn, TOOLS)
            self._turn(prompt[0], sampled, messages[turn])
            following = list(itertools.takewhile(lambda one: one["role"] != "assistant", messages[turn + 1 :]))
            row = (prompt[0] + sampled, prompt[1] + [True] * len(sampled))
            if following:
                whole = self.codec.prompt_ids(messages[: turn + 1 + len(following)], TOOLS)
                suffix = self._follow(prompt[0], sampled, following, whole)
                if suffix is not None:
                    row = (row[0] + suffix, row[1] + [False] * len(suffix))
                    continue
            sampled_rows.append(row)
            row = None
        trained = [_trimmed(one) for one in self.codec.training_rows(given, TOOLS)]
        assert trained == [_trimmed(one) for one in sampled_rows], "trained on what is not sampled"

    def _turn(self, prompt: list[int], sampled: list[int], message: dict[str, Any]) -> None:
        """What is sampled of a demonstration ends as sampling does, and is read back as what it says."""
        self.tally.turns += 1
        assert sampled[-1] in self.codec.stop_ids
        assert not set(sampled[:-1]) & set(self.codec.stop_ids), "sampling would have stopped before"
        read = self.codec.parse(sampled, prompt, TOOLS, new_call_id=lambda: "call_1")
        expected = [call["function"] for call in message.get("tool_calls") or []]
        assert [call.name for call in read.tool_calls] == [one["name"] for one in expected], read.tool_calls
        arguments = [_object(call.arguments) for call in read.tool_calls]
        assert arguments == [_object(one["arguments"]) for one in expected], read.tool_calls
        if not expected:
            assert read.content.strip() == message["content"].strip()
            thought = read.message.get("reasoning_content", "")
            assert thought in ("", message.get("reasoning_content")), "a thought is not read back as it was"

    def _follow(
        self, prompt: list[int], sampled: list[int], following: list[dict[str, Any]], whole: list[int]
    ) -> list[int] | None:
        """What follows is what a render of the whole has there; whatever else is sampled, stays."""
        codec = self.codec
        suffix = codec.append(prompt, sampled, following, TOOLS)
        self.tally.appended += suffix is not None
        self.tally.forked += suffix is None
        if suffix is not None:
            assert continues(codec, [*prompt, *sampled], suffix, whole), "what follows is not what a render has there"
        kind = self.draw.randrange(4)
        if kind == 0:
            otherwise = split_a_token(self.draw, self._tokenizer, sampled)
            assert codec.append(prompt, otherwise, following, TOOLS) == suffix, "another spelling is followed otherwise"
        elif kind == 1 and len(sampled) > 1:
            cut = sampled[: self.draw.randrange(1, len(sampled))]
            closed = codec.append(prompt, cut, following, TOOLS)
            # Some close a thought before.
            assert closed is None or set(closed[:12]) & set(codec.stop_ids), "a turn that was cut off is not closed"
            codec.parse(cut, prompt, TOOLS, new_call_id=lambda: "call_1")
        return suffix


def _object(arguments: Any) -> Any:
    return json.loads(arguments) if isinstance(arguments, str) else arguments


def _context(ids: list[int]) -> Row:
    return ids, [False] * len(ids)


def _trimmed(row: Row) -> Row:
    """Without what stands behind the last that is sampled."""
    end = max((place for place, sampled in enumerate(row[1]) if sampled), default=-1) + 1
    return row[0][:end], row[1][:end]
