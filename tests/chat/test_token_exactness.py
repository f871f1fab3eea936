"""Tokens in, tokens out (DESIGN invariant 1), over random conversations and three families' templates."""

import json
import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from agentrft.chat import ChatCodec

CONVERSATIONS = 1_000
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "search",
            "parameters": {"type": "object", "properties": {"query": {"type": "string"}, "limit": {"type": "integer"}}},
        },
    }
]
WORDS = [
    *(
        "chest",
        "pain",
        "A01.02",
        "42",
        "naïve",
        "北京",
        "مرحبا",
        "🎉",
        "👩🏽‍🔬",
        "e\u0301",
        "\u200b",
        "x" * 30,
        '"',
        "\\",
        "{",
        "}}",
    ),
    *("<|im_end|>", "<|im_start|>assistant", "<|endoftext|>", "<tool_response>", "</tool_response>", "<|user|>"),
    *("<|observation|>", "[gMASK]", "</arg_value>", "\n", "\n\n", "\t", "a\nb", "don't", "a=1;", "https://a.b/c?d=e&f"),
]
# The templates of these families strip or split on such text in what an assistant writes.
ASSISTANT_WORDS = [word for word in WORDS if word.strip() and not word.startswith(("<", "["))]
MALFORMED = ['<tool_call>\n{"name": "search", "argu', "<tool_call>not json</tool_call>", '<tool_call>{"arguments": {}}']


@dataclass
class Tally:
    turns: int = 0
    forks: int = 0
    whole: int = 0
    perturbed: dict[str, int] = field(default_factory=dict)


def some_text(draw: random.Random, words: list[str], most: int = 8) -> str:
    return " ".join(draw.choice(words) for _ in range(draw.randint(1, most)))


def some_call(draw: random.Random) -> dict[str, Any]:
    arguments: dict[str, Any] = {"query": some_text(draw, ASSISTANT_WORDS, 5)}
    if draw.random() < 0.3:
        arguments["limit"] = draw.randint(-5, 99)
    given = arguments if draw.random() < 0.5 else json.dumps(arguments, ensure_ascii=draw.random() < 0.5)
    name = draw.choice(["search", "look_up"])
    return {"id": f"call_{draw.randrange(10**6)}", "type": "function", "function": {"name": name, "arguments": given}}


def some_conversation(draw: random.Random) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    if draw.random() < 0.5:
        messages.append({"role": draw.choice(["system", "developer"]), "content": some_text(draw, WORDS)})
    messages.append({"role": "user", "content": some_text(draw, WORDS)})
    for _ in range(draw.randint(0, 3)):
        calls = [some_call(draw) for _ in range(draw.randint(1, 3))]
        content = some_text(draw, ASSISTANT_WORDS).strip() if draw.random() < 0.4 else ""
        messages.append({"role": "assistant", "content": content, "tool_calls": calls})
        for call in calls:
            result = some_text(draw, WORDS, 12) if draw.random() < 0.9 else ""
            name = call["function"]["name"]
            messages.append({"role": "tool", "tool_call_id": call["id"], "name": name, "content": result})
        if draw.random() < 0.1:
            messages.append({"role": "user", "content": some_text(draw, WORDS)})
    messages.append({"role": "assistant", "content": some_text(draw, ASSISTANT_WORDS).strip()})
    return messages


def exchanges(messages: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[list[dict[str, Any]]]]:
    """The prompt's messages, and for each assistant's turn the messages that follow it."""
    turns = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    ends = [*turns[1:], len(messages)]
    return messages[: turns[0]], [messages[turn + 1 : end] for turn, end in zip(turns, ends, strict=True)]


def split_a_token(draw: random.Random, tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> list[int]:
    """The same text in other tokens, as a sampler may well produce it."""
    id_of = tokenizer.backend_tokenizer.token_to_id
    special_ids = set(tokenizer.all_special_ids)
    for place in draw.sample(range(len(ids)), len(ids)):
        token = tokenizer.convert_ids_to_tokens(ids[place])
        pairs = [(id_of(token[:cut]), id_of(token[cut:])) for cut in range(1, len(token))]
        known = [pair for pair in pairs if None not in pair]
        if known and ids[place] not in special_ids:
            return [*ids[:place], *draw.choice(known), *ids[place + 1 :]]
    return ids


def perturb(draw: random.Random, codec: ChatCodec, ids: list[int], tally: Tally) -> list[int]:
    tokenizer = codec.renderer._tokenizer
    kind = draw.choice(["same", "split", "truncated", "malformed"])
    tally.perturbed[kind] = tally.perturbed.get(kind, 0) + 1
    if kind == "split":
        return split_a_token(draw, tokenizer, ids)
    if kind == "truncated":
        return ids[: draw.randrange(len(ids))]
    if kind == "malformed":
        return [*tokenizer.encode(draw.choice(MALFORMED), add_special_tokens=False), ids[-1]]
    return ids


def replay(draw: random.Random, codec: ChatCodec, messages: list[dict[str, Any]], tally: Tally) -> None:
    """Sample the conversation's own turns: the ids grow into exactly what a render of the whole gives."""
    prompt, following = exchanges(messages)
    full_ids, full_mask = codec.training_rows(messages, TOOLS)[-1]
    row = codec.prompt_ids(prompt, TOOLS)
    sampled_places: list[int] = []
    for new_messages in following:
        if full_ids[: len(row)] != row:
            break
        end = next((place for place in range(len(row), len(full_ids)) if not full_mask[place]), len(full_ids))
        if end == len(row):
            break
        sampled = full_ids[len(row) : end]
        sampled_places += range(len(row), end)
        tally.turns += 1
        if not new_messages:
            row += sampled
            assert full_ids[: len(row)] == row
            assert [place for place, is_sampled in enumerate(full_mask) if is_sampled] == sampled_places
            tally.whole += 1
            return
        suffix = codec.append(row, sampled, new_messages, TOOLS)
        perturbed_exactly(draw, codec, row, sampled, new_messages, suffix, tally)
        if suffix is None:
            break
        row = row + sampled + suffix
    # The templates of the package's two families drop an assistant's reasoning when the user speaks again.
    assert any(message["role"] == "user" for messages in following for message in messages)
    tally.forks += 1


def perturbed_exactly(
    draw: random.Random,
    codec: ChatCodec,
    row: list[int],
    canonical: list[int],
    new_messages: list[dict[str, Any]],
    canonical_suffix: list[int] | None,
    tally: Tally,
) -> None:
    """Whatever was sampled instead, it stays, and what follows is what follows the canonical ids."""
    sampled = perturb(draw, codec, canonical, tally)
    turn = codec.parse(sampled, row, TOOLS, new_call_id=lambda: "call_1")
    assert len(turn.message.get("tool_calls", [])) == len(turn.tool_calls)
    suffix = codec.append(row, sampled, new_messages, TOOLS)
    if suffix is None or canonical_suffix is None:
        assert suffix is None and canonical_suffix is None
        return
    closed = bool(sampled) and sampled[-1] == canonical[-1]
    assert suffix[len(suffix) - len(canonical_suffix) :] == canonical_suffix
    assert closed == (len(suffix) == len(canonical_suffix))


def run(codec: ChatCodec, seed: int, conversations: int) -> Tally:
    draw = random.Random(seed)
    tally = Tally()
    for _ in range(conversations):
        replay(draw, codec, some_conversation(draw), tally)
    assert set(tally.perturbed) == {"same", "split", "truncated", "malformed"}
    return tally


def test_chatml_rollouts_are_token_exact_in_a_thousand_random_conversations(chatml_codec: ChatCodec) -> None:
    tally = run(chatml_codec, seed=1, conversations=CONVERSATIONS)
    assert tally.whole == CONVERSATIONS and tally.forks == 0


@pytest.mark.parametrize("family", ["qwen3_codec", "glm_codec"])
def test_package_rollouts_are_token_exact_wherever_the_template_keeps_history(
    family: str, request: pytest.FixtureRequest
) -> None:
    conversations = CONVERSATIONS // 4
    tally = run(request.getfixturevalue(family), seed=2, conversations=conversations)
    assert tally.whole + tally.forks == conversations
    assert tally.whole > 0.75 * conversations


def test_parse_gives_back_what_was_rendered(chatml_codec: ChatCodec) -> None:
    draw = random.Random(3)
    for _ in range(300):
        messages = some_conversation(draw)
        ids, mask = chatml_codec.training_rows(messages, TOOLS)[0]
        assistants = [message for message in messages if message["role"] == "assistant"]
        place = 0
        for message in assistants:
            start = mask.index(True, place)
            place = mask.index(False, start)
            turn = chatml_codec.parse(ids[start:place], ids[:start], TOOLS, new_call_id=lambda: "call_1")
            assert turn.content == message["content"]
            expected = [call["function"] for call in message.get("tool_calls", [])]
            assert [call.name for call in turn.tool_calls] == [function["name"] for function in expected]
            for call, function in zip(turn.tool_calls, expected, strict=True):
                arguments = function["arguments"]
                assert call.error is None and call.arguments is not None
                assert json.loads(call.arguments) == (
                    json.loads(arguments) if isinstance(arguments, str) else arguments
                )
