"""The programs of the shell, and which of their arguments are let in: what is not listed here is refused.

Each program has the options that only look. Left out are those that run, write, delete or wait (`find -exec`,
`find -delete`, `tail -f`), that take names or patterns out of other files (`grep -f`, `wc --files0-from`), and that
follow links (`grep -R`, `find -L`). Every argument that is a path must lead into the repository, links resolved.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from examples.common.tool_server import BadArguments

NUMBER = re.compile(r"[+-]?[0-9]+")
# What `sed -n` may do: print lines by number. Its other commands write files and run programs.
SED_PRINT = re.compile(r"[0-9]+(,([0-9]+|\$))?p")
MAX_ARGUMENTS = 400


@dataclass(frozen=True)
class Program:
    """What a program takes.

    Attributes:
        flags: its short options without a value.
        valued: its short options with one.
        long: its long options, and whether they take a value.
        pattern: whether the first argument that is no option is a pattern, unless `-e` gives one.
        numbers: whether `-5` is an option.
    """

    flags: str = ""
    valued: str = ""
    long: Mapping[str, bool] = field(default_factory=dict)
    pattern: bool = False
    numbers: bool = False


GREP = Program(
    flags="EFGHVchilnoqrsvwxL",
    valued="ABCem",
    long={
        **dict.fromkeys(("include", "exclude", "exclude-dir", "regexp", "max-count", "context"), True),
        **dict.fromkeys(("after-context", "before-context"), True),
        **dict.fromkeys(("recursive", "ignore-case", "line-number", "files-with-matches", "count"), False),
        **dict.fromkeys(("only-matching", "extended-regexp", "fixed-strings", "invert-match", "no-filename"), False),
        **dict.fromkeys(("with-filename", "files-without-match", "line-regexp", "word-regexp"), False),
    },
    pattern=True,
    numbers=True,
)
PROGRAMS: dict[str, Program] = {
    "grep": GREP,
    "ls": Program(flags="1AFRSadhlrt"),
    "cat": Program(flags="bns"),
    "head": Program(flags="q", valued="cn", long={"lines": True, "bytes": True}, numbers=True),
    "tail": Program(flags="q", valued="cn", long={"lines": True, "bytes": True}, numbers=True),
    "wc": Program(flags="clmw", long={"lines": False, "words": False, "bytes": False}),
    "sort": Program(flags="bfnru", valued="kt", long={"reverse": False, "numeric-sort": False, "unique": False}),
    "uniq": Program(flags="cdiu"),
    "cut": Program(valued="cdf"),
    "sed": Program(flags="nE", pattern=True),
    "find": Program(),
    "pwd": Program(),
}
# Tests and actions of `find`, with how many words each takes.
FIND = {
    **dict.fromkeys(("-name", "-iname", "-path", "-ipath", "-type", "-maxdepth", "-mindepth", "-size"), 1),
    **dict.fromkeys(("-not", "!", "-o", "-or", "-a", "-and", "-print", "-prune", "-empty", "-true"), 0),
}


def check(name: str, arguments: list[str], folder: Path, root: Path) -> None:
    """Let a program's arguments in, or say what is wrong with them.

    Args:
        folder: that the program will run in.
        root: of the repository, without links in its path.

    Raises:
        BadArguments: for the agent to read.
    """
    if name not in PROGRAMS:
        raise BadArguments(f"{name}: no such program; there are {', '.join(sorted(PROGRAMS))}, and cd")
    if len(arguments) > MAX_ARGUMENTS:
        raise BadArguments(f"{name}: more than {MAX_ARGUMENTS} arguments")
    paths = _find_paths(arguments) if name == "find" else _paths(name, PROGRAMS[name], arguments)
    # The second one is a file that it would write.
    if name == "uniq" and len(paths) > 1:
        raise BadArguments("uniq: it takes one file")
    for path in paths:
        inside(path, folder, root)


def inside(path: str, folder: Path, root: Path) -> Path:
    """Where a path leads that is given in a folder.

    Raises:
        BadArguments: out of the repository, by its own words or by a link.
    """
    if not path.isprintable():
        raise BadArguments("a path has a control character")
    # Not `Path.resolve`, which raises where links lead in a circle.
    found = Path(os.path.realpath(folder / path))
    if path.startswith("/") or not found.is_relative_to(root):
        raise BadArguments(f"{path}: outside of the repository; paths begin in its folder, such as . or a file's name")
    return found


def in_disk_order(name: str, arguments: list[str], folder: Path) -> bool:
    """Whether lines that begin with their file's name are printed in the order of the disk, which differs between
    machines: by `find`, and by a `grep` of a folder that shows names and no lines around."""
    if name != "grep":
        return name == "find"
    options = [argument for argument in arguments if argument.startswith("-")]
    short = "".join(option[1:] for option in options if not option.startswith("--"))
    searches_folders = "r" in short or "--recursive" in options
    unnamed = set("hABC") & set(short) or any(
        re.match(r"--no-filename|--(after-|before-)?context|-[0-9]", o) for o in options
    )
    paths = _paths(name, GREP, arguments)
    return searches_folders and not unnamed and (not paths or any((folder / path).is_dir() for path in paths))


def _paths(name: str, program: Program, arguments: list[str]) -> list[str]:
    """The arguments that are paths; the others are let in."""
    plain: list[str] = []
    pattern_given = False
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            plain += rest
        elif argument.startswith("--"):
            option, equals, _ = argument[2:].partition("=")
            if option not in program.long or (equals and not program.long[option]):
                raise _unknown(name, argument)
            if program.long[option] and not equals:
                _next(rest, name, argument)
            pattern_given = pattern_given or option == "regexp"
        elif argument.startswith("-") and argument != "-":
            pattern_given = _short(name, program, argument, rest) or pattern_given
        else:
            plain.append(argument)
    if not program.pattern or pattern_given:
        return plain
    if not plain:
        raise BadArguments(f"{name}: a pattern is missing")
    if name == "sed" and SED_PRINT.fullmatch(plain[0]) is None:
        raise BadArguments("sed: it only prints lines by number, as in sed -n 10,20p FILE")
    return plain[1:]


def _short(name: str, program: Program, argument: str, rest: Iterator[str]) -> bool:
    """Let short options in that stand together; whether one of them gives a pattern."""
    if program.numbers and NUMBER.fullmatch(argument):
        return False
    for place, letter in enumerate(argument[1:], start=1):
        if letter in program.valued:
            if place == len(argument) - 1:
                _next(rest, name, argument)
            return letter == "e"
        if letter not in program.flags:
            raise _unknown(name, f"-{letter}")
    return False


def _find_paths(arguments: list[str]) -> list[str]:
    paths: list[str] = []
    rest = iter(arguments)
    begun = False
    for argument in rest:
        if argument.startswith("-") or argument == "!":
            begun = True
            if argument not in FIND:
                raise _unknown("find", argument)
            for _ in range(FIND[argument]):
                _next(rest, "find", argument)
        elif begun:
            raise BadArguments(f"find: {argument}: paths come before the tests")
        else:
            paths.append(argument)
    return paths


def _next(rest: Iterator[str], name: str, argument: str) -> str:
    """The value of an option."""
    value = next(rest, None)
    if value is None:
        raise BadArguments(f"{name}: {argument} needs a value")
    return value


def _unknown(name: str, option: str) -> BadArguments:
    return BadArguments(f"{name}: {option} is not available here")
