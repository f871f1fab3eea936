"""What hosted python graders import works in the sandbox, as far as it is installed here: the default development
environment leaves out the large ones (rdkit, scikit-bio), which `pip install 'agentrft[graders]'` brings.
"""

import re
import tomllib
from importlib.util import find_spec
from pathlib import Path

from agentrft.graders import GraderSample, create_grader
from agentrft.graders.packages import HOSTED_PACKAGES
from agentrft.spec import PythonGraderSpec

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
LARGE = {"rdkit", "skbio"}
# For each package something that takes more of it than its name: native code, threads, its own data.
USES = {
    "ast_grep_py": "ast_grep_py.SgRoot('x = 1', 'python').root().find(pattern='x = $A') is not None",
    "deepdiff": "deepdiff.DeepDiff({'a': 1}, {'a': 2})['values_changed'] != {}",
    "jsonschema": "jsonschema.validate(1, {'type': 'integer'}) is None",
    "nltk": "nltk.edit_distance('abc', 'abd') == 1",
    "numpy": "numpy.linalg.inv(numpy.eye(64)).sum() == 64",
    "pandas": "pandas.DataFrame({'a': [1, 2]}).a.sum() == 3",
    "pydantic": "pydantic.TypeAdapter(int).validate_python('3') == 3",
    "rapidfuzz": "__import__('rapidfuzz.fuzz').fuzz.ratio('a', 'a') == 100",
    "rdkit": "__import__('rdkit.Chem').Chem.MolFromSmiles('CCO').GetNumAtoms() == 3",
    "rouge_score": "__import__('rouge_score.rouge_scorer').rouge_scorer.RougeScorer(['rougeL']) is not None",
    "scipy": "__import__('scipy.optimize').optimize.minimize(lambda x: x[0] ** 2, [1.0]).success",
    "skbio": "str(skbio.DNA('ACGT').reverse_complement()) == 'ACGT'",
    "sklearn": "__import__('sklearn.metrics').metrics.f1_score([1, 0], [1, 0]) == 1",
    "sqlparse": "len(sqlparse.parse('select 1; select 2')) == 2",
    "sympy": "sympy.simplify('x + x') == sympy.sympify('2*x')",
    "yaml": "yaml.safe_load('a: 1') == {'a': 1}",
}


async def test_hosted_graders_packages_work_in_the_sandbox() -> None:
    # In one worker: scipy and the like are imported once.
    names = [name for name in HOSTED_PACKAGES if find_spec(name) is not None]
    uses = "".join(f"    import {name}\n    works[{name!r}] = {USES[name]}\n" for name in names)
    source = (
        f"def grade(sample, item):\n    works = {{}}\n{uses}    assert all(works.values()), works\n    return 1.0\n"
    )
    grader = create_grader(PythonGraderSpec(type="python", source=source, isolated=False), n_workers=1)
    try:
        assert (await grader.grade(GraderSample("x"), item={}, trace_id="t")).score == 1.0
    finally:
        await grader.close()
    assert set(HOSTED_PACKAGES) - set(names) <= LARGE, "these are in the default development environment"


def test_the_extra_graders_has_all_that_hosted_graders_may_import() -> None:
    extras = PROJECT["optional-dependencies"]
    wanted = [*extras["graders"], *extras["graders-core"], *PROJECT["dependencies"]]
    brought = {re.split(r"[<>=\[ ]", one)[0].lower() for one in wanted}
    assert set(HOSTED_PACKAGES.values()) <= brought
    assert "agentrft[graders-core]" in extras["graders"]
