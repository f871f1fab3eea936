"""What a source may not say: everything that a function of arithmetic has no use for.

The checks are of words, not of meaning. They keep most of what is no kernel from ever being compiled, with a reason
that the agent can read; the jail (`runner.c`) holds without them.
"""

import re
from dataclasses import dataclass

MAX_CHARACTERS = 4000
INCLUDE = re.compile(r"^[ \t]*#[ \t]*include[ \t]*<(math|stddef|stdint)\.h>[ \t]*$", re.M)
COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
TOKEN = re.compile(r"[A-Za-z_]\w*|\.?\d(?:[eEpP][+-]|[\w.])*|\S")
CONTROL = frozenset({"for", "while", "if", "switch", "return", "sizeof"})
_TYPES = (
    "void char short int long float double signed unsigned const restrict size_t ptrdiff_t int8_t int16_t int32_t "
    "int64_t uint8_t uint16_t uint32_t uint64_t"
)
TYPES = frozenset(_TYPES.split())
_MATH = (
    "exp exp2 expm1 log log2 log10 log1p sqrt cbrt pow sin cos tan asin acos atan atan2 sinh cosh tanh erf erfc fabs "
    "fmax fmin floor ceil round rint trunc fma fmod hypot copysign"
)
MATH = frozenset(name + suffix for name in _MATH.split() for suffix in ("", "f"))
# Words that keep state between calls, name memory or code otherwise, or leave the function sideways.
_WORDS = (
    "static extern register volatile asm typeof goto inline typedef struct union enum main auto alignas alignof "
    "thread_local noreturn generic atomic complex"
)
WORDS = frozenset(_WORDS.split())


@dataclass(frozen=True)
class Refusal:
    """Why a source is not compiled.

    Attributes:
        kind: "length", "character", "directive", "word", "call" or "shape".
        reason: in words, short, for the agent.
    """

    kind: str
    reason: str


def refusal(source: str) -> Refusal | None:
    """Why the source is refused; None where it may be compiled."""
    if len(source) > MAX_CHARACTERS:
        return Refusal("length", f"longer than {MAX_CHARACTERS} characters")
    text = COMMENT.sub(" ", INCLUDE.sub("", source))
    for character in text:
        if character in "\"'\\`@$" or not (character.isascii() and (character.isprintable() or character in "\n\t\r")):
            return Refusal("character", f"no {character!r} here")
    # `%:` and `<:` are other spellings of # and [, `??` of nine characters more.
    if "#" in text or "%:" in text or "??" in text or "<:" in text or "<%" in text:
        return Refusal("directive", "no directives but #include <math.h>, <stddef.h>, <stdint.h>")
    tokens = TOKEN.findall(text)
    return _word(tokens) or _shape(tokens) or _call(tokens)


def _word(tokens: list[str]) -> Refusal | None:
    for token in tokens:
        if token in WORDS or token.startswith("_"):
            return Refusal("word", f"no '{token}' here")
    return None


def _shape(tokens: list[str]) -> Refusal | None:
    """The whole source is `void f(…){…}`: nothing lives outside of the function, and nothing runs before it."""
    if tokens[:3] != ["void", "f", "("]:
        return Refusal("shape", "write one function: void f(...)")
    body = _closing(tokens, 2, "(", ")") + 1
    if body >= len(tokens) or tokens[body] != "{" or _closing(tokens, body, "{", "}") != len(tokens) - 1:
        return Refusal("shape", "write one function and nothing after it")
    return None


def _call(tokens: list[str]) -> Refusal | None:
    for place, token in enumerate(tokens):
        if token != "(" or place == 2:
            continue
        before = tokens[place - 1]
        if before == "]" or tokens[place + 1 : place + 2] == ["{"]:
            return Refusal("call", "no calls of values")
        if before == ")" and not _is_cast(tokens, place - 1):
            return Refusal("call", "no calls of values")
        if (before[0].isalpha() or before[0] == "_") and before not in MATH | CONTROL:
            return Refusal("call", f"no '{before}' here: only functions of math.h")
    return None


def _is_cast(tokens: list[str], closing: int) -> bool:
    """Whether the bracket that ends there holds a type, or the condition of a loop or a branch."""
    depth = 0
    for place in range(closing, -1, -1):
        depth += (tokens[place] == ")") - (tokens[place] == "(")
        if depth == 0:
            inside = tokens[place + 1 : closing]
            is_control = place > 0 and tokens[place - 1] in CONTROL - {"return", "sizeof"}
            return is_control or (bool(inside) and all(token in TYPES or token == "*" for token in inside))
    return False


def _closing(tokens: list[str], opening: int, left: str, right: str) -> int:
    depth = 0
    for place in range(opening, len(tokens)):
        depth += (tokens[place] == left) - (tokens[place] == right)
        if depth == 0:
            return place
    return len(tokens)
