"""A python grader's source is looked at before it runs: nothing in it ends the process that looks."""

import subprocess
import sys
import textwrap

import pytest

from agentrft.errors import UserError
from agentrft.graders.python_source import checked_source
from agentrft.spec.graders import PythonGraderSpec

GRADE = "def grade(sample, item):\n    return 1"


def check(source: str) -> str | None:
    return checked_source(PythonGraderSpec(type="python", source=source)).runs_text_at


PATHOLOGICAL = {
    "60,000 sums": GRADE + "+1" * 60_000,
    "60,000 products": GRADE + "*1" * 60_000,
    "60,000 signs": GRADE + "+" + "-" * 60_000 + "1",
    "30,000 negations": GRADE + " + " + "not " * 30_000 + "1",
    "100,000 brackets": GRADE + "+" + "(" * 100_000 + "1" + ")" * 100_000,
    "20,000 lists": GRADE + "+len(" + "[" * 20_000 + "]" * 20_000 + ")",
    "50,000 attributes": GRADE + ".a" * 50_000,
    "50,000 calls": GRADE + "\nf = grade" + "()" * 50_000,
    "50,000 subscripts": GRADE + "\nf = grade" + "[0]" * 50_000,
    "20,000 comparisons": GRADE + "<(1" * 20_000 + ")" * 20_000,
    "5,000 conditions": GRADE + " if 1 else 0" * 5_000,
    "5,000 branches": GRADE + "\nif 1: pass\n" + "elif 1: pass\n" * 5_000,
    "5,000 lambdas": GRADE + "\nf = " + "lambda: " * 5_000 + "1",
    "5,000 comprehensions": GRADE + "\nf = " + "[x for x in " * 5_000 + "()" + "]" * 5_000,
    "200 loops": GRADE + "\n" + "".join(" " * i + "for x in y:\n" for i in range(200)) + " " * 200 + "pass",
    "5,000 formatted strings": GRADE + "\nf = " + "f'{" * 50 + "1" + "}'" * 50,
    "5,000 walruses": GRADE + "\nf = " + "(a := " * 5_000 + "1" + ")" * 5_000,
    "5,000 patterns": GRADE + "\nmatch 1:\n case " + "[" * 5_000 + "x" + "]" * 5_000 + ": pass",
    "5,000 type subscripts": GRADE + "\nx: " + "list[" * 5_000 + "int" + "]" * 5_000,
    "5,000 stars": GRADE + "\nf = " + "[*" * 5_000 + "()" + "]" * 5_000,
    "5,000 dictionaries": GRADE + "\nf = " + "{1: " * 5_000 + "1" + "}" * 5_000,
    "200,000 decorators": "@f\n" * 60_000 + GRADE,
    "a number of 200,000 digits": GRADE + "\nx = " + "9" * 200_000,
    "a power": GRADE + "\nx = 9 ** 9 ** 9 ** 9",
    "a shift": GRADE + "\nx = 1 << (1 << 40)",
    "a repeated text": GRADE + "\nx = 'a' * 10 ** 12",
    "60,000 names": GRADE + "\n" + "".join(f"a{i} = {i}\n" for i in range(20_000)),
    "NUL": GRADE + "\n\x00",
    "half of a surrogate pair": GRADE + "\nx = '\ud800'",
    "an unknown character": GRADE + "\n\N{SNOWMAN}",
    "no end of a string": GRADE + "\nx = '''",
    "an escape of a name that is not": GRADE + "\nx = '\\N{NOTHING AT ALL}'",
    "tabs and spaces": "def grade(sample, item):\n\treturn 1\n        return 2",
    "another encoding's declaration": "# coding: latin-1\n" + GRADE,
    "an unknown encoding's declaration": "# coding: nothing\n" + GRADE,
}


@pytest.mark.parametrize("name", PATHOLOGICAL)
def test_a_pathological_source_is_read_or_is_the_users_error(name: str) -> None:
    program = """
import sys
from agentrft.errors import UserError
from agentrft.graders.python_source import checked_source
from agentrft.spec.graders import PythonGraderSpec
source = sys.stdin.buffer.read().decode("utf-8", "surrogatepass")
spec = PythonGraderSpec.model_construct(type="python", name="mine", source=source)
try:
    checked_source(spec)
except UserError as error:
    str(error).encode()
"""
    source = PATHOLOGICAL[name].encode("utf-8", "surrogatepass")
    done = subprocess.run([sys.executable, "-c", program], input=source, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()[-1000:]


def test_an_expression_that_is_too_deep_is_named() -> None:
    with pytest.raises(UserError, match="nested too deep"):
        check(GRADE + "+1" * 60_000)


def test_a_source_is_at_most_256_kilobytes() -> None:
    with pytest.raises(ValueError, match="256 kB"):
        PythonGraderSpec(type="python", source=GRADE + "\n" + "x = 1\n" * 50_000)


def test_a_byte_order_mark_is_no_part_of_the_code() -> None:
    found = checked_source(PythonGraderSpec(type="python", source="\ufeff" + GRADE))
    assert found.text == GRADE


@pytest.mark.parametrize(
    "line",
    [
        "exec(sample['output_text'])",
        "eval(sample['output_text'])",
        "compile(sample['output_text'], '', 'exec')",
        "run = exec",
        "getattr(builtins, 'exec')(text)",
        "__builtins__['eval'](text)",
        "__import__('answer')",
        "builtins.compile(text, '', 'eval')",
        "frame.eval('a + b')",
        "import pickle",
        "import numpy, pickle as storage",
        "from pickle import loads",
        "import importlib.util",
        "from importlib import util",
        "import runpy",
        "from sympy import sympify",
        "sympy.parse_expr(text)",
        "sys.path.insert(0, '/tmp')",
        "numpy.load(file, allow_pickle=True)",
        "yaml.unsafe_load(text)",
        "types.FunctionType(code, {})",
    ],
)
def test_a_source_that_runs_text_as_code_is_isolated(line: str) -> None:
    source = textwrap.dedent(GRADE) + "\n\ndef helper(sample, text):\n    " + line
    found = check(source)
    assert found is not None and found.startswith("line 5: ")


@pytest.mark.parametrize(
    "line",
    [
        "re.compile('a+')",
        "pattern = regex.compile(text)",
        "json.loads(text)",
        "ast.literal_eval(text)",
        "evaluate(text)",
        "executor = ThreadPoolExecutor()",
        "'exec is only a word here'",
        "from re import compile",
        "os.path.join('a', 'b')",
        "yaml.safe_load(text)",
    ],
)
def test_a_source_that_only_sounds_like_it_is_not(line: str) -> None:
    assert check(GRADE + "\n\ndef helper(text):\n    " + line) is None
