"""A command line as words and operators, without a shell: what it may not hold is refused, and nothing is expanded.

Quotes and backslashes mean what they mean to a shell. `|` and `&&` are the only operators. Whatever would run, write or
read something else (`;`, `&`, `>`, `<`, `$(…)`, backticks, variables) is an error that says so.
"""

from dataclasses import dataclass

from examples.common.tool_server import BadArguments

MAX_CHARACTERS = 2000
# Ways to drop error messages, which agents write out of habit. They change nothing here, so they are skipped.
HARMLESS = ("2>/dev/null", "2> /dev/null", "2>&1")
WILDCARDS = "*?["


@dataclass(frozen=True)
class Word:
    """One word of a command.

    Attributes:
        text: without its quotes.
        wildcards: whether an unquoted `*`, `?` or `[` is in it, so that it stands for file names.
    """

    text: str
    wildcards: bool = False


Command = list[Word]
Pipeline = list[Command]


def parse(line: str) -> list[Pipeline]:
    """The pipelines of a command line, which are to run one after another as long as none fails.

    Raises:
        BadArguments: what is wrong with it, for the agent to read.
    """
    if len(line) > MAX_CHARACTERS:
        raise BadArguments(f"the command is longer than {MAX_CHARACTERS} characters")
    line = line.replace("\t", " ").strip()
    # Surrogates, which no file name has, are none of the printable characters either.
    if not line.isprintable():
        raise BadArguments("the command has a line break or another control character: give one command line")
    pipelines: list[Pipeline] = [[[]]]
    for token in _tokens(line):
        if isinstance(token, Word):
            pipelines[-1][-1].append(token)
        elif token == "|":
            pipelines[-1].append([])
        else:
            pipelines.append([[]])
    if any(not command for pipeline in pipelines for command in pipeline):
        raise BadArguments("a command is missing: give one command line, such as grep -rn WORD .")
    return pipelines


def _tokens(line: str) -> list[Word | str]:
    tokens: list[Word | str] = []
    position = 0
    while position < len(line):
        character = line[position]
        rest = line[position:]
        skipped = next((text for text in HARMLESS if rest.startswith(text)), None)
        if character == " ":
            position += 1
        elif skipped is not None:
            position += len(skipped)
        elif rest.startswith("&&"):
            tokens.append("&&")
            position += 2
        elif rest.startswith("||"):
            raise BadArguments("|| is not available: give one command line, with | or && where you need them")
        elif character == "|":
            tokens.append("|")
            position += 1
        else:
            word, position = _word(line, position)
            tokens.append(word)
    return tokens


def _word(line: str, position: int) -> tuple[Word, int]:
    """The word that begins at a position, and the position behind it."""
    text, wildcards, quote = "", False, ""
    while position < len(line):
        character, following = line[position], line[position + 1 : position + 2]
        if quote == "'" and character != quote:
            text += character
        elif quote and character == quote:
            quote = ""
        elif character == "\\" and following and (not quote or following in '"\\$`'):
            text += following
            position += 1
        elif character == "`" or (character == "$" and _expands(following)):
            raise BadArguments(f"{character}{following} is not available: nothing is run or expanded inside a command")
        elif quote:
            text += character
        elif character in "\"'":
            quote = character
        elif character in " |" or line.startswith("&&", position):
            break
        elif character in ";&<>()":
            raise BadArguments(f"{character} is not available: give one command line, with | or && where you need them")
        else:
            wildcards = wildcards or character in WILDCARDS
            text += character
        position += 1
    if quote:
        raise BadArguments(f"a {quote} is not closed")
    return Word(text, wildcards), position


def _expands(following: str) -> bool:
    """Whether a shell would put something in the place of `$` and this character; of `x$` at a pattern's end it does
    not."""
    return following.isalnum() or (following != "" and following in "({_?!#@*-$")
