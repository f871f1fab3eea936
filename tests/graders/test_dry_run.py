"""A python grader's code is loaded before a job: what it imports and lacks is named, with how to get it."""

import logging
import sys
from typing import Any

import pytest
from pydantic import TypeAdapter

from agentrft.errors import UserError
from agentrft.graders import GraderFailure, GraderSample, create_grader, dry_run
from agentrft.graders.packages import HOSTED_PACKAGES, what_to_install
from agentrft.spec import GraderSpec, PythonGraderSpec

GRADE = "def grade(sample, item):\n    return 1.0\n"


def python(source: str, **fields: Any) -> dict[str, Any]:
    return {"type": "python", "source": source, **fields}


async def refused(spec: dict[str, Any]) -> UserError:
    with pytest.raises(UserError) as error:
        await dry_run(TypeAdapter(GraderSpec).validate_python(spec))
    return error.value


@pytest.mark.parametrize("trusted", [False, True])
async def test_a_missing_package_is_named_with_its_line_and_how_to_install_it(trusted: bool) -> None:
    error = await refused(python(f"import os\nimport no_such_package\n{GRADE}", trusted=trusted))
    assert "No module named 'no_such_package' (line 2: import no_such_package)" in error.cause
    assert f"{sys.executable} -m pip install no_such_package" in error.remedy


@pytest.mark.parametrize(
    "late",
    [
        "    import no_such_package.part\n",
        "    from no_such_package import part\n",
        "    if sample:\n        import no_such_package\n",
        "    try:\n        import no_such_package\n    finally:\n        pass\n",
    ],
)
async def test_what_grade_imports_when_it_is_called_is_looked_for_too(late: str) -> None:
    error = await refused(python(f"def grade(sample, item):\n{late}    return 1.0\n"))
    assert "No module named 'no_such_package', which a function imports" in error.cause


@pytest.mark.parametrize(
    "source",
    [
        GRADE,
        "import json\n" + GRADE,
        "def grade(sample, item):\n    import statistics, json.decoder\n    return 1.0\n",
        "try:\n    import no_such_package\nexcept ImportError:\n    no_such_package = None\n" + GRADE,
        "def grade(sample, item):\n    try:\n        import no_such\n    except Exception:\n        return 0.5\n",
        "def _look_for(x): return x\n" + GRADE,
    ],
)
async def test_what_is_there_or_can_be_done_without_is_no_fault(source: str) -> None:
    await dry_run(PythonGraderSpec(type="python", source=source))


async def test_whatever_the_code_raises_while_it_is_loaded_is_said() -> None:
    error = await refused(python("X = 1 / 0\n" + GRADE))
    assert "exception: while loading: ZeroDivisionError: division by zero (line 1: X = 1 / 0)" in error.cause
    assert error.remedy == "Correct the grader's code."
    assert "crashed" in (await refused(python("import os\nos._exit(3)\n" + GRADE))).cause


async def test_all_graders_of_a_multi_are_loaded_and_their_faults_said_together() -> None:
    graders = {
        "good": python(GRADE),
        "first": python(f"import no_such_a\n{GRADE}"),
        "second": python(f"import no_such_b\n{GRADE}"),
        "text": {"type": "string_check", "input": "a", "reference": "b", "operation": "eq"},
    }
    error = await refused({"type": "multi", "graders": graders, "calculate_output": "good + first + second + text"})
    assert "grader 'first'" in error.cause and "grader 'second'" in error.cause and "'good'" not in error.cause
    assert "pip install no_such_a" in error.remedy and "pip install no_such_b" in error.remedy


async def test_a_source_with_thousands_of_nested_conditions_is_looked_through() -> None:
    chain = "    if sample == 0:\n        import no_such\n" + "".join(
        f"    elif sample == {number}:\n        pass\n" for number in range(1, 900)
    )
    error = await refused(python(f"def grade(sample, item):\n{chain}    return 1.0\n"))
    assert "no_such" in error.cause


async def test_a_dry_run_says_nothing_twice(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="agentrft"):
        source = "def grade(sample, item):\n    import no_such\n    return eval('1')\n"
        await refused(python(source, image_tag="2025-05-08", isolated=False))
    assert not [record for record in caplog.records if "image_tag" in record.message or "isolated" in record.message]


def test_a_package_is_named_as_it_is_installed_and_hosted_ones_as_such() -> None:
    assert HOSTED_PACKAGES["skbio"] == "scikit-bio"
    said = what_to_install("ModuleNotFoundError: No module named 'skbio.stats' (line 1: import skbio.stats)") or ""
    assert "pip install scikit-bio`" in said and "agentrft[graders]" in said and "ast-grep-py, deepdiff" in said
    assert "pip install beautifulsoup4" in (what_to_install("No module named 'bs4'") or "")
    assert what_to_install("ZeroDivisionError: division by zero") is None


def test_what_an_answer_made_a_grader_raise_recommends_no_package_but_hosteds() -> None:
    assert what_to_install("No module named 'evil_twin'", hosted_alone=True) is None
    assert "pip install deepdiff" in (what_to_install("No module named 'deepdiff'", hosted_alone=True) or "")


async def test_missing_data_of_nltk_is_named_with_where_the_sandbox_finds_it() -> None:
    pytest.importorskip("nltk")
    source = "import nltk\ndef grade(sample, item):\n    return nltk.data.load('tokenizers/no_such_data/x.pickle')\n"
    grader = create_grader(PythonGraderSpec(type="python", source=source), n_workers=1)
    with pytest.raises(GraderFailure) as failure:
        await grader.grade(GraderSample("x"), item={}, trace_id="t")
    await grader.close()
    assert f"-m nltk.downloader -d {sys.prefix}/nltk_data no_such_data" in str(failure.value)


@pytest.mark.parametrize("trusted", [False, True])
async def test_a_graders_code_has_a_home_that_is_there(trusted: bool) -> None:
    source = "import os\nassert os.path.isdir(os.path.expanduser('~')), os.environ\n" + GRADE
    await dry_run(PythonGraderSpec(type="python", source=source, trusted=trusted))
