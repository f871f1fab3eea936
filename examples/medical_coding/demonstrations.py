"""Demonstrations by a scripted agent that is mediocre on purpose.

It knows how to call the tool and how to answer, which is what the warm start has to teach. It also copies too much
of the transcript into its queries and searches twice where once would do, which leaves reinforcement something to
find out.
"""

import json
import random
from typing import Any

from search_index import Hit, SearchIndex, format_hits
from terms import Diagnosis
from transcripts import prompt_messages

NOISY_QUERY_SHARE = 0.5
NEEDLESS_SEARCH_SHARE = 0.5
WORDS_AROUND = (2, 6)
PUNCTUATION = ".,:()"


def demonstrate(
    diagnosis: Diagnosis, transcript: str, index: SearchIndex, script: random.Random
) -> list[dict[str, Any]]:
    """A whole conversation, with the tool results that the server would have sent."""
    messages: list[dict[str, Any]] = [*prompt_messages(transcript)]
    seen: list[Hit] = []
    for number, query in enumerate(_queries(diagnosis.term, transcript, script)):
        if seen and script.random() >= NEEDLESS_SEARCH_SHARE:
            break
        hits = index.search(query)
        seen += hits
        messages += _search_messages(f"call_{number}", query, format_hits(hits))
    messages.append({"role": "assistant", "content": _answer(diagnosis.code, seen)})
    return messages


def demonstrate_well(diagnosis: Diagnosis, transcript: str, index: SearchIndex) -> list[dict[str, Any]]:
    """A conversation of an agent that searches once, for the bare term, and reads what it finds."""
    hits = format_hits(index.search(diagnosis.term))
    call = _search_messages("call_0", diagnosis.term, hits)
    return [*prompt_messages(transcript), *call, {"role": "assistant", "content": diagnosis.code}]


def with_surrounding_words(term: str, transcript: str, script: random.Random) -> str:
    """The term and a few words of the transcript on both sides of it, without punctuation."""
    before, after = (text.split() for text in transcript.split(term, maxsplit=1))
    n_before, n_after = (script.randint(*WORDS_AROUND) for _ in range(2))
    words = [*before[max(0, len(before) - n_before) :], term, *after[:n_after]]
    return " ".join(filter(None, (word.strip(PUNCTUATION) for word in words)))


def _queries(term: str, transcript: str, script: random.Random) -> tuple[str, str]:
    """The first query, and the one for a second search: the bare term and a noisy query, in either order."""
    noisy = with_surrounding_words(term, transcript, script)
    return (noisy, term) if script.random() < NOISY_QUERY_SHARE else (term, noisy)


def _search_messages(call_id: str, query: str, result: str) -> list[dict[str, Any]]:
    function = {"name": "search", "arguments": json.dumps({"query": query})}
    call = {"id": call_id, "type": "function", "function": function}
    return [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call_id, "content": result},
    ]


def _answer(code: str, seen: list[Hit]) -> str:
    """The right code if a search showed it, else the first hit."""
    codes = [hit.code for hit in seen]
    return code if code in codes or not codes else codes[0]
