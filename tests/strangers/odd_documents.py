"""Documents as strangers send them: right in most places, and odd in one or a few.

Each is a valid document of its door in which values were replaced by fragments that broke something somewhere: numbers
without end, brackets without bottom, halves of surrogate pairs, keys that are there twice, other encodings.
"""

import json
from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

DEPTHS = (2, 50, 99, 100, 101, 500, 990, 2_000, 10_000)
DIGITS = (18, 19, 20, 299, 300, 301, 308, 309, 400, 4_299, 4_301, 5_000)
FRAGMENTS = [
    *("[" * depth + "]" * depth for depth in DEPTHS),
    *('{"a":' * depth + "1" + "}" * depth for depth in DEPTHS),
    *("[" * depth for depth in (150, 1_500, 20_000)),
    *("9" * digits for digits in DIGITS),
    *("-" + "7" * digits for digits in DIGITS),
    *("0." + "3" * digits for digits in DIGITS),
    *("1e308", "1e309", "1e999", "-1e999", "1e-400", "-0", "0.0", "1E5", "2147483648", "9223372036854775808"),
    *("NaN", "Infinity", "-Infinity", "null", "true", "false", '""', "[]", "{}", "[[]]", "[{}]", "0", "-1", "1", '"1"'),
    *('"\\ud83d"', '"\\udc00 "', '"\\ud83d\\ud83d\\ude00"', '"\\ude00\\ud83d"', '"\\ud83d\\ude00"', '"\\\\ud83d"'),
    *('"\\u0000"', '"a\\u0000b"', '"\\ufffe\\uffff"', '"\\u202e"', '"\x00"', '"\x1b[31m"', '"\ud83d"', '"\udcff x"'),
    *('{"a":1,"a":2}', '{"":1}', '{"__proto__":{}}', '{"\\ud83d":1}', '{"a":{"b":NaN,"b":1}}', '{"type":"python"}'),
    *('"{{ item.x }}"', '"{{ sample.output_json.k }}"', '"{{"', '"{{ item }}"', '"..\\/..\\/etc\\/passwd"', '"%00"'),
    *(
        '"${HOME}"',
        '"auto"',
        '"ft:x:y::z:ckpt-step-' + "9" * 50 + '"',
        '"' + "x" * 10_000 + '"',
        '"é"',
        '"日本"',
        '"😀"',
    ),
]
ENCODINGS = ["utf-8"] * 12 + ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252", "shift_jis"]

Path = tuple[str | int, ...]

fragments = st.sampled_from(FRAGMENTS)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
).map(json.dumps)


@st.composite
def odd_documents(draw: st.DrawFn, bases: list[Any], *, one_line: bool = False, extra: Sequence[str] = ()) -> str:
    """The text of a document: one of `bases`, with up to three odd places.

    Args:
        extra: fragments of this door's own, beside `FRAGMENTS`.
    """
    odd = fragments | json_values | st.sampled_from(extra) if extra else fragments | json_values
    document = deepcopy(draw(st.sampled_from(bases)))
    raw: list[str] = []
    for _ in range(draw(st.integers(0, 3))):
        document = _with_odd_place(draw, document, raw, odd)
    text = json.dumps(document, ensure_ascii=draw(st.booleans()))
    for number, fragment in enumerate(raw):
        text = text.replace(json.dumps(_mark(number)), fragment)
    if draw(st.integers(0, 3)) == 0:
        text = _damaged(draw, text)
    return text.replace("\n", " ").replace("\r", " ") if one_line else text


def odd_bytes(texts: st.SearchStrategy[str]) -> st.SearchStrategy[bytes]:
    """Texts in an encoding, mostly UTF-8; half surrogate pairs come through."""

    def encode(text: str, encoding: str) -> bytes:
        if encoding.startswith("utf"):
            return text.encode(encoding, "surrogatepass")
        return text.encode(encoding, "replace")

    return st.builds(encode, texts, st.sampled_from(ENCODINGS))


def generated(strategy: st.SearchStrategy[Any], count: int, *, at: int) -> list[Any]:
    """So many examples of a strategy, the same ones for the same `at`."""
    found: list[Any] = []

    @seed(at)
    @settings(
        max_examples=count,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(example: Any) -> None:
        found.append(example)

    collect()
    return found


def _with_odd_place(draw: st.DrawFn, document: Any, raw: list[str], odd: st.SearchStrategy[str]) -> Any:
    raw.append(draw(odd))
    mark = _mark(len(raw) - 1)
    paths = list(_paths(document))
    path = draw(st.sampled_from(paths))
    action = draw(st.sampled_from(["replace", "replace", "replace", "add", "repeat", "drop", "wrap"]))
    if not path:
        return {"key": mark} if action == "wrap" else document if action != "replace" or draw(st.booleans()) else mark
    parent = document
    for step in path[:-1]:
        parent = parent[step]
    last = path[-1]
    if action == "drop":
        del parent[last]
    elif action == "add" and isinstance(parent, dict):
        key = draw(st.sampled_from(["odd", "", "\ud83d", "a.b", "__class__", "messages", "x" * 300, "\x00"]))
        parent[key] = mark
    elif action == "repeat" and isinstance(last, str) and isinstance(parent, dict):
        # Written out after the value, as text, so that the key is there twice.
        raw[-1] = f"{json.dumps(parent[last])}, {json.dumps(last)}: {raw[-1]}"
        parent[last] = mark
    elif action == "wrap":
        parent[last] = [parent[last], mark]
    else:
        parent[last] = mark
    return document


def _damaged(draw: st.DrawFn, text: str) -> str:
    place = draw(st.integers(0, max(0, len(text))))
    match draw(st.sampled_from(["cut", "insert", "bom", "tail", "spaces", "nul"])):
        case "cut":
            return text[:place]
        case "insert":
            return text[:place] + draw(st.sampled_from(list('"\\{}[]:,\x00\x0b\u2028\ud83d\ufeffé😀'))) + text[place:]
        case "bom":
            return "\ufeff" + text
        case "tail":
            return text + draw(st.sampled_from(["}", "]", " {}", "\x00", "garbage", "\ufeff"]))
        case "spaces":
            return " \t" + text + " \t"
        case _:
            return "\x00" + text


def _paths(document: Any, at: Path = ()) -> Iterator[Path]:
    yield at
    if isinstance(document, dict):
        for key, value in document.items():
            yield from _paths(value, (*at, key))
    elif isinstance(document, list):
        for index, value in enumerate(document):
            yield from _paths(value, (*at, index))


def _mark(number: int) -> str:
    return f"@@odd {number}@@"
