"""What tests, benchmarks, examples and scripts import from each other and from the package is there.

Most of them run seldom, or in another environment, so that a name which was moved would be missed only then.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Of src/ the type checker says the same.
FOLDERS = ("tests", "benchmarks", "examples", "scripts")
OWN = ("tests", "benchmarks", "examples", "agentrft")


def files() -> list[Path]:
    return sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def test_every_name_that_is_imported_from_our_own_modules_is_there() -> None:
    missing = [
        f"{path.relative_to(ROOT)}:{line}: {module} has no {name}"
        for path in files()
        for line, module, name in own_imports(path)
        if not has(module, name)
    ]
    assert missing == []


def test_a_name_that_is_gone_would_be_seen(tmp_path: Path) -> None:
    path = tmp_path / "stale.py"
    path.write_text("def test():\n    from tests.tiny_model import gone, tiny_model\n", encoding="utf-8")
    found = {name: has(module, name) for _, module, name in own_imports(path)}
    assert found["gone"] is False


@pytest.mark.parametrize(("module", "name"), [("agentrft.job", "run_job"), ("tests", "docs"), ("agentrft", "spec")])
def test_names_that_are_loaded_when_asked_for_and_submodules_count(module: str, name: str) -> None:
    assert has(module, name)


def own_imports(path: Path) -> Iterator[tuple[int, str, str]]:
    """Line, module and name of each import from a module of ours, wherever it stands in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").split(".")[0] in OWN:
            yield from ((node.lineno, str(node.module), alias.name) for alias in node.names)


def has(module: str, name: str) -> bool:
    return name == "*" or file_of(f"{module}.{name}") is not None or name in names_of(module)


@cache
def names_of(module: str) -> frozenset[str]:
    """What a module binds anywhere, and what it says that it exports."""
    path = file_of(module)
    if path is None or path.is_dir():
        return frozenset()
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found.update((alias.asname or alias.name).split(".")[0] for alias in node.names)
        elif isinstance(node, ast.Assign) and any(getattr(one, "id", "") == "__all__" for one in node.targets):
            found.update(ast.literal_eval(node.value) if isinstance(node.value, ast.List | ast.Tuple) else ())
    return frozenset(found)


@cache
def file_of(module: str) -> Path | None:
    """A module's file, or its folder where that has no `__init__.py`."""
    place = ROOT.joinpath(*(["src"] if module.startswith("agentrft") else []), *module.split("."))
    if place.with_suffix(".py").is_file():
        return place.with_suffix(".py")
    if (place / "__init__.py").is_file():
        return place / "__init__.py"
    return place if place.is_dir() else None
