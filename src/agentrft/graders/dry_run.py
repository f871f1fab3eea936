"""Loading python graders before anything is graded: what they import is there, and their code runs up to `grade`."""

from agentrft.errors import UserError
from agentrft.graders.base import GraderFailure
from agentrft.graders.python import PythonGrader
from agentrft.graders.python_source import checked_source
from agentrft.spec.graders import GraderSpec, MultiGraderSpec, PythonGraderSpec

# What functions import when they are called is looked for only, not imported.
LOOK_FOR = """

def _look_for(names):
    import sys
    for name in names:
        if name not in sys.modules and not any(finder.find_spec(name, None) for finder in sys.meta_path):
            raise ModuleNotFoundError(f"No module named {{name!r}}, which a function imports")
_look_for({names!r})
"""


async def dry_run(spec: GraderSpec) -> None:
    """Load the source of each python grader in a worker, as a job would, and end the worker again.

    Raises:
        UserError: one could not be loaded, with what it raised, its line, and what to install.
    """
    several = spec.graders if isinstance(spec, MultiGraderSpec) else {spec.name: spec}
    failures: list[GraderFailure] = []
    for name, one in several.items():
        if isinstance(one, PythonGraderSpec):
            failures += await _failures(one.model_copy(update={"name": name}))
    if failures:
        remedies = dict.fromkeys(failure.remedy or "Correct the grader's code." for failure in failures)
        raise UserError("\n".join(failure.cause for failure in failures), " ".join(remedies))


async def _failures(spec: PythonGraderSpec) -> list[GraderFailure]:
    source = checked_source(spec)
    text = source.text + LOOK_FOR.format(names=source.late_imports) if source.late_imports else source.text
    # What its author should know of it, such as an `image_tag` without effect, is said by the grader that grades.
    plain = {"source": text, "source_file": None, "image_tag": None, "isolated": True}
    grader = PythonGrader(spec.model_copy(update=plain))
    try:
        await grader.load()
    except GraderFailure as failure:
        return [failure]
    finally:
        await grader.close()
    return []
