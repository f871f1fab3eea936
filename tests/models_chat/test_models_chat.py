"""Tokens in, tokens out, for every family of models: `make test-models` in a thousand conversations each.

Families whose template is a reconstruction need no download, and run in `make test` too, with a few conversations.
"""

import json
import os
import random
from pathlib import Path

import pytest

from agentrft.chat import load_codec
from agentrft.chat.proof import CodecProof
from tests.models_chat.checks import Checker
from tests.models_chat.conversations import Conversations
from tests.models_chat.families import FAMILIES, Family

CONVERSATIONS = int(os.environ.get("AGENTRFT_CHAT_CONVERSATIONS", "6"))
# A folder, where `make test-models` wants what was seen of each.
SEEN = os.environ.get("AGENTRFT_CHAT_SEEN")


@pytest.mark.parametrize("family", FAMILIES, ids=[family.name for family in FAMILIES])
def test_tokens_stay_and_what_follows_is_what_the_template_writes(family: Family) -> None:
    tokenizer = family.tokenizer()
    if tokenizer is None:
        pytest.skip("its template is fetched by scripts/fetch_templates.py, as `make test-models` does")
    codec = load_codec(tokenizer, family.models, template_kwargs=family.variables)
    checker = Checker(codec, tokenizer, random.Random(7))
    conversations = Conversations(11, plain_quotes=family.plain_quotes)
    for number in range(CONVERSATIONS):
        messages = conversations.one()
        try:
            checker.check(messages)
        except AssertionError as error:
            error.add_note(f"conversation {number} of {family.name}: {json.dumps(messages, ensure_ascii=False)}")
            raise
    proof = codec.proof
    assert proof is not None and proof.warm_start, proof
    if SEEN is not None:
        write_down(Path(SEEN), family, proof)


def write_down(folder: Path, family: Family, proof: CodecProof) -> None:
    ours = proof.family in ("template", "chatml")
    seen = {
        "family": family.name,
        "models": family.models,
        "architectures": family.architectures.split(", "),
        "template": family.source,
        "conversations": CONVERSATIONS,
        "codec": proof.family if ours else f"`renderers`: {proof.family}",
        "proven": proof.proven,
        "unproven": list(proof.unproven),
        "forks": list(proof.forks),
        "call_format": proof.call_format,
        "warm_start": proof.warm_start_refusal or "yes",
        "thinks": proof.thinks,
        "variables": list(proof.variables),
    }
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{FAMILIES.index(family):03}.json"
    (folder / name).write_text(json.dumps(seen, ensure_ascii=False), encoding="utf-8")
