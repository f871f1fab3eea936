"""A python grader's source, read before any of it runs: whether it has a `grade`, and whether it runs text as code."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from agentrft.errors import UserError
from agentrft.spec.graders import PythonGraderSpec

# By what name a source runs text, or bytes, as code. sympy's parsers hand the text to `eval`.
CODE_RUNNERS = {
    *("exec", "eval", "compile", "__import__", "__builtins__", "CodeType", "FunctionType"),
    *("exec_module", "load_module", "import_module", "sympify", "parse_expr", "unsafe_load"),
}
# Modules by which stored text, bytes or files become code.
CODE_RUNNING_MODULES = {
    *("asteval", "builtins", "cloudpickle", "code", "codeop", "dill", "doctest", "imp", "importlib", "joblib"),
    *("marshal", "numexpr", "pickle", "runpy", "shelve", "timeit"),
}


@dataclass(frozen=True)
class CheckedSource:
    """A source that has a usable `grade`.

    Attributes:
        text: the source, without a byte order mark.
        runs_text_at: the line where it runs text as code, and by what, as "line 3: exec"; None where it does nowhere.
        late_imports: packages that functions import when they are called, where nothing is done about their absence.
    """

    text: str
    runs_text_at: str | None
    late_imports: tuple[str, ...]


def checked_source(spec: PythonGraderSpec) -> CheckedSource:
    """Read a grader's source without running it.

    Raises:
        UserError: it is no Python, or cannot be compiled, or has no function `grade(sample, item)`.
    """
    if spec.source is None:
        raise UserError(f"grader '{spec.name}': source_file was not read.", "Load the job with `load_job`.")
    source = spec.source.removeprefix("\ufeff")
    filename = f"<grader {spec.name}>"
    try:
        tree = ast.parse(source, filename)
        compile(source, filename, "exec", dont_inherit=True)
    except SyntaxError as error:
        raise UserError(
            f"grader '{spec.name}': source, line {error.lineno}: {error.msg}.", "Correct the grader's code."
        ) from error
    except (RecursionError, MemoryError) as error:
        raise UserError(
            f"grader '{spec.name}': source: an expression or block is nested too deep for Python's compiler.",
            "Split it into several.",
        ) from error
    except UnicodeError as error:
        raise UserError(
            f"grader '{spec.name}': source: it has half of a surrogate pair, which has no UTF-8 form.",
            "Write such a character with an escape: '\\ud800'.",
        ) from error
    except (ValueError, OverflowError, SystemError) as error:
        raise UserError(f"grader '{spec.name}': source: {error}.", "Correct the grader's code.") from error
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "grade"]
    if not functions or not _takes_two(functions[-1].args):
        found = f"line {functions[-1].lineno} takes other arguments" if functions else "there is none"
        raise UserError(
            f"grader '{spec.name}': source: expected a function grade(sample, item); {found}.",
            "Define `def grade(sample, item) -> float:` at the top level; it must not be async.",
        )
    return CheckedSource(source, _runs_text_at(tree), tuple(dict.fromkeys(_late_imports(tree))))


def _takes_two(arguments: ast.arguments) -> bool:
    """Whether the function can be called with exactly two positional arguments."""
    n_positional = len(arguments.posonlyargs) + len(arguments.args)
    n_required = n_positional - len(arguments.defaults)
    missing_keywords = any(default is None for default in arguments.kw_defaults)
    return n_required <= 2 and (n_positional >= 2 or arguments.vararg is not None) and not missing_keywords


def _late_imports(tree: ast.Module) -> Iterator[str]:
    """In functions, outside of every `try` with handlers: those may be for a package's absence."""
    # Not by recursion: an `elif` is nested in what it follows, and there may be thousands.
    waiting: list[tuple[ast.AST, bool]] = [(tree, False)]
    while waiting:
        node, in_function = waiting.pop()
        match node:
            case ast.Import(names=names) if in_function:
                yield from (alias.name.split(".")[0] for alias in names)
            case ast.ImportFrom(module=str(module), level=0) if in_function:
                yield module.split(".")[0]
            case ast.Try(handlers=[_, *_]):
                continue
            case _:
                inside = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
                waiting += [(child, inside) for child in ast.iter_child_nodes(node)]


def _runs_text_at(tree: ast.Module) -> str | None:
    for node in ast.walk(tree):
        for name in _names(node):
            return f"line {getattr(node, 'lineno', 1)}: {name}"
    return None


def _names(node: ast.AST) -> list[str]:
    """The names of what runs text as code, in one node. A guess: it may find too much, and can be gone around."""
    match node:
        case ast.Name(id=name) | ast.Constant(value=str(name)):
            return [name] if name in CODE_RUNNERS else []
        case ast.Attribute(attr="compile", value=value):
            return ["compile"] if isinstance(value, ast.Name) and "builtins" in value.id else []
        case ast.Attribute(attr="path", value=ast.Name(id="sys")):
            return ["sys.path"]
        case ast.Attribute(attr=name):
            return [name] if name in CODE_RUNNERS else []
        case ast.Import(names=names):
            return [alias.name for alias in names if alias.name.split(".")[0] in CODE_RUNNING_MODULES]
        case ast.ImportFrom(module=str(module), names=names):
            found = [module] if module.split(".")[0] in CODE_RUNNING_MODULES else []
            return found + [alias.name for alias in names if alias.name in CODE_RUNNERS and module != "re"]
        case ast.keyword(arg="allow_pickle"):
            return ["allow_pickle"]
        case _:
            return []
