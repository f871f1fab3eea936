"""What a python grader lacks, read out of what it raised, and how to install it."""

import re
import shlex
import sys

# By the name of import, the packages that hosted python graders have. The extra `graders` has them all.
HOSTED_PACKAGES = {
    "ast_grep_py": "ast-grep-py",
    "deepdiff": "deepdiff",
    "jsonschema": "jsonschema",
    "nltk": "nltk",
    "numpy": "numpy",
    "pandas": "pandas",
    "pydantic": "pydantic",
    "rapidfuzz": "rapidfuzz",
    "rdkit": "rdkit",
    "rouge_score": "rouge-score",
    "scipy": "scipy",
    "skbio": "scikit-bio",
    "sklearn": "scikit-learn",
    "sqlparse": "sqlparse",
    "sympy": "sympy",
    "yaml": "pyyaml",
}
# Others that are not called as they are imported.
OTHER_NAMES = {
    "Bio": "biopython",
    "PIL": "pillow",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "docx": "python-docx",
    "Levenshtein": "levenshtein",
}
NO_MODULE = re.compile(r"No module named '([A-Za-z_]\w{0,63})(?:\.[\w.]*)?'")
# NLTK writes the name of the data in quotes, or in colour.
NO_NLTK_DATA = re.compile(r"Resource\s+(?:'|\x1b\[\d+m)([\w.-]{1,64})(?:'|\x1b\[0m)\s+not\s+found")


def what_to_install(message: str, *, hosted_alone: bool = False) -> str | None:
    """How to get what a grader lacked; None where it lacked nothing that could be installed.

    Args:
        message: what it raised.
        hosted_alone: name no packages but hosted's. A message that was raised over an answer may be the agent's words.
    """
    python = shlex.quote(sys.executable)
    data = NO_NLTK_DATA.search(message)
    if data is not None:
        # The sandbox shows a grader no home, where the downloader puts things by default.
        folder = shlex.quote(f"{sys.prefix}/nltk_data")
        return f"Run `{python} -m nltk.downloader -d {folder} {data[1]}`: NLTK's data is not part of its package."
    module = NO_MODULE.search(message)
    if module is None or (hosted_alone and module[1] not in HOSTED_PACKAGES):
        return None
    name = module[1]
    package = HOSTED_PACKAGES.get(name) or OTHER_NAMES.get(name, name)
    if name in HOSTED_PACKAGES:
        names = ", ".join(sorted(HOSTED_PACKAGES.values()))
        every = f"`pip install 'agentrft[graders]'` for all that hosted graders may import: {names}"
        return f"Run `{python} -m pip install {package}`, or {every}."
    return (
        f"Run `{python} -m pip install {package}` if that is the package: graders run with this Python and what is "
        "installed for it. Of a file of your own, put the code into `source`."
    )
