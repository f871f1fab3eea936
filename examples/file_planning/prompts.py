"""What the agent is given, and which words of a request are worth a search."""

import re
from typing import Any

from examples.file_planning.change_requests import MAX_CHARACTERS, shortened

SYSTEM_PROMPT = (
    "Name the files that must change for the request. Search with shell (grep, find, ls) and read_file; several calls "
    "may go in one turn. Answer with the paths only, one per line."
)
QUOTED = re.compile(r"`([^`]+)`")
TOKEN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
MIN_WORD_LETTERS = 4
# Words that requests have in common, so that a search for them says nothing.
_COMMON = """
about accept accepts added adding adds after again allow allowed allows also always another argument arguments
avoid because been before behave being better both call called calls change changed changes check checks clear code
correct correctly could default deprecate describe different does document documentation doesn done each empty
ensure error errors even every explain expose fail fails first fix fixed fixes fixing from function give given
handle handling have here improve improved independent input instead into issue issues large last like load longer
make makes making many method missing more move moved must name names need never none note nothing once only option
other please properly python raise raised raises refactor remove removed removes rename replace result results
return returned returns same share should show some speed still such sure support supported supports takes test
tests than that their them then there these they this through time today type types typing unused update updated
updates used user users uses using value values version warn warning warnings were what when where which while will
with without work works would write wrong your
"""
COMMON = frozenset(_COMMON.split())


def prompt_messages(request: str, difficulty: str) -> list[dict[str, Any]]:
    """The conversation that a rollout begins with."""
    content = f"Request: {shortened(request, MAX_CHARACTERS[difficulty])}"
    return [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": content}]


def search_words(request: str) -> list[str]:
    """The words of a request, the most telling ones first: quoted ones, names of code, then long before short ones."""
    quoted = [token for text in QUOTED.findall(request) for token in TOKEN.findall(text)[-1:]]
    tokens = TOKEN.findall(request)
    names = [token for token in tokens if "_" in token.strip("_") or re.search(r"[a-z][A-Z]", token)]
    plain = [t for t in tokens if len(t) >= MIN_WORD_LETTERS and t.lower() not in COMMON]
    return list(dict.fromkeys([*quoted, *names, *sorted(plain, key=len, reverse=True)]))


def is_name(word: str, request: str) -> bool:
    """Whether a word is a name of code in a request, so that a search for its definition makes sense."""
    return f"`{word}" in request or "_" in word.strip("_") or re.search(r"[a-z][A-Z]", word) is not None


def definition_of(word: str) -> str:
    """What the line holds that defines a function or class of that name."""
    return f"class {word}" if word.lstrip("_")[:1].isupper() else f"def {word}"
