"""Writes docs/reference/cli.md and docs/reference/fields.md: every command with its options, and every field of a job.

They are made of the commands and of the spec classes with their docstrings, so neither is written by hand;
`tests/docs/test_reference.py` fails where they are not what this makes.
"""

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main
from griffe import Docstring, DocstringSectionAttributes, DocstringSectionText, Parser
from pydantic import BaseModel
from typer.core import TyperGroup

from agentrft.cli.main import app
from agentrft.spec import (
    alarms,
    base_job,
    cluster,
    engine,
    graders,
    hyperparameters,
    integrations,
    job,
    response_format,
    tools,
    tuning,
)

FOLDER = Path(__file__).parents[1] / "docs/reference"
MADE = "<!-- made by scripts/write_reference.py of {}: change those, and run `make docs` -->"

CLI_INTRO = """\
# Command line

After this page you know every command, argument and option of `agentrft`; `agentrft COMMAND --help` says the same.

- **Jobs** are named by id, by the beginning of one, or by `latest`. **Weights** are `base` (the model as it came),
  `JOB` (its result), `JOB@0` (its warm start), `JOB@7` (a step), `JOB@best`, `JOB@last`, or the folder of an adapter.
- `--json` writes one JSON object to standard output and nothing else, for scripts; words go to standard error.
- Exit codes: 0 done · 2 something you wrote (the message names it) · 3 an endpoint cannot be used · 4 the baseline
  cannot be trained · 5 the job failed and can be resumed · 6 paused by an alarm · 130 interrupted, resumable.
"""

FIELDS_INTRO = """\
# Fields of a job

After this page you know every field that a job takes, its type, its bounds and its default. [The job
file](../job.md) says how they go together.

A job file has the fields of [JobSpec](#jobspec) at its top. Those of the method (`tools`, `tool_choice`,
`parallel_tool_calls`, `max_tool_calls`, `on_rollout_start`, `on_rollout_end`, `response_format`, `grader`,
`holdout_graders`, `alarms`, `hyperparameters`) stand under `method.reinforcement`, as in the fine-tuning API. A field
that is not here is an error that names it. In Python they are the classes of `agentrft.spec`: immutable pydantic
models, which [`load_job`](python.md#jobs) makes of a file.
"""

# What a reader looks up together: a title, and the classes under it.
GROUPS: dict[str, list[type[BaseModel]]] = {
    "The job": [
        job.JobSpec,
        job.WarmStartSpec,
        job.BaselineSpec,
        engine.EngineSpec,
        cluster.ClusterSpec,
        response_format.ResponseFormat,
        response_format.JsonSchemaFormat,
        alarms.AlarmsSpec,
        alarms.AlarmSpec,
    ],
    "How it learns": [hyperparameters.Hyperparameters],
    "Tools": [
        tools.HttpToolSpec,
        tools.McpToolSpec,
        tools.PythonToolSpec,
        tools.HookSpec,
        tools.NamedToolChoice,
        tools.ToolChoiceFunction,
    ],
    "Graders": [
        graders.StringCheckGraderSpec,
        graders.TextSimilarityGraderSpec,
        graders.PythonGraderSpec,
        graders.EndpointGraderSpec,
        graders.ScoreModelGraderSpec,
        graders.LabelModelGraderSpec,
        graders.ModelGraderSpec,
        graders.TraceGraderSpec,
        graders.MultiGraderSpec,
        graders.JudgeMessage,
        graders.JudgeText,
        graders.SamplingParams,
    ],
    "Metrics elsewhere": [
        integrations.WandbIntegration,
        integrations.WandbSpec,
        integrations.MlflowIntegration,
        integrations.MlflowSpec,
        integrations.TensorBoardIntegration,
        integrations.TensorBoardSpec,
        integrations.TrackioIntegration,
        integrations.TrackioSpec,
    ],
    "Jobs that learn from files": [tuning.TuningSpec, tuning.TuningHyperparameters],
}
LISTED = {one.__name__ for classes in GROUPS.values() for one in classes}
# Where a field takes any of several classes, what they are together.
UNIONS = {"Graders": "[grader](#graders)", "Tools": "[tool](#tools)"}
# Of a JSON Schema: what it is a bound of, then the keys of the lowest and of the highest.
BOUNDS = {
    "": ("minimum", "maximum"),
    " characters": ("minLength", "maxLength"),
    " of them": ("minItems", "maxItems"),
}
EXCLUSIVE = {"exclusiveMinimum": "above", "exclusiveMaximum": "below"}
TYPES = {"integer": "whole number", "string": "text", "boolean": "true or false", "object": "mapping"}


def cli_page() -> str:
    """Every command of `agentrft`, in the order that its help has them."""
    group: Any = typer.main.get_command(app)
    commands = dict(_commands("agentrft", group))
    contents = [f"- [`{name}`](#{name.replace(' ', '-')}): {_first(command)}" for name, command in commands.items()]
    parts = [CLI_INTRO, MADE.format("agentrft.cli"), "\n".join(contents)]
    for name, command in commands.items():
        parts += [f"## {name}", _words(command.help), _usage(name, command), _parameters(command)]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def _commands(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(command, TyperGroup):
        yield name, command
        return
    if name != "agentrft" and command.invoke_without_command:
        yield name, command
    for word, below in command.commands.items():
        yield from _commands(f"{name} {word}", below)


def _first(command: Any) -> str:
    return _words(command.help).split(". ")[0].splitlines()[0].rstrip(".") + "."


def _words(text: str | None) -> str:
    """Help as Markdown: paragraphs are joined lines."""
    return "\n\n".join(" ".join(part.split()) for part in re.split(r"\n\s*\n", (text or "").replace("\b", "")))


def _usage(name: str, command: Any) -> str:
    context = typer.Context(command, info_name=name)
    words = " ".join(command.collect_usage_pieces(context))
    return f"```text\n{name} {re.sub('[{}]', '', words)}\n```"


def _parameters(command: Any) -> str:
    context = typer.Context(command, info_name=command.name)
    rows = []
    for parameter in command.params:
        if getattr(parameter, "hidden", False):
            continue
        record = parameter.get_help_record(context)
        if record is None:
            continue
        name, text = record[0].replace(" range>", ">"), " ".join(record[1].split())
        default = re.search(r"\s*\[([^\[\]]*)\]$", text)
        facts = [] if default is None else [one.strip() for one in default[1].split(";")]
        shown = next((one.removeprefix("default:").strip() for one in facts if one.startswith("default:")), "")
        if "required" in facts:
            shown = "required"
        about = text[: default.start()] if default else text
        bounds = [one for one in facts if one != "required" and not one.startswith("default:")]
        about += f" ({', '.join(bounds)})" if bounds else ""
        rows.append(f"| `{_cell(name)}` | {_cell(shown)} | {_cell(about)} |")
    return "| | default | |\n|---|---|---|\n" + "\n".join(rows)


def fields_page() -> str:
    """Every field of a job, by class."""
    parts = [FIELDS_INTRO, MADE.format("agentrft.spec")]
    for title, classes in GROUPS.items():
        parts.append(f"## {title}")
        for one in classes:
            parts += [f"### {one.__name__}", summary_of(one), _fields(one)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _fields(model: type[BaseModel]) -> str:
    schema = model.model_json_schema(by_alias=True)
    required = set(schema.get("required", ()))
    descriptions = descriptions_of(model)
    fields = list(zip(model.model_fields.items(), schema.get("properties", {}).items(), strict=True))
    if not issubclass(model, base_job.BaseJobSpec):
        own = ("type", "name", *model.__annotations__)
        fields.sort(key=lambda one: own.index(one[0][0]) if one[0][0] in own else len(own))
    rows = []
    for (name, field), (shown, given) in fields:
        default = "required" if shown in required else _default(given, field.get_default(call_default_factory=True))
        rows.append(f"| `{shown}` | {_type(given)} | {default} | {_cell(descriptions.get(name, ''))} |")
    return "| field | type | default | |\n|---|---|---|---|\n" + "\n".join(rows)


def summary_of(model: type[BaseModel]) -> str:
    """The docstring of a class without its sections."""
    texts = [one.value for one in _sections(model) if isinstance(one, DocstringSectionText)]
    return "\n\n".join(" ".join(text.split()) if not text.startswith("-") else text for text in texts)


def descriptions_of(model: type[BaseModel]) -> dict[str, str]:
    """What docstrings say of each field: the class's own, else those of the classes it is made of."""
    found: dict[str, str] = {}
    for one in model.__mro__:
        if not issubclass(one, BaseModel) or one is BaseModel:
            continue
        for section in _sections(one):
            if isinstance(section, DocstringSectionAttributes):
                for attribute in section.value:
                    for name in attribute.name.split(","):
                        found.setdefault(name.strip().rstrip("_"), _sentence(attribute.description))
    return {name: found.get(name.rstrip("_"), "") for name in model.model_fields}


def _sections(model: type) -> list[Any]:
    return Docstring(inspect.cleandoc(model.__doc__ or ""), parser=Parser.google).parse(warnings=False)


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return text[:1].upper() + text[1:] if re.match(r"[a-z]+[ ,.:;]", text) else text


def _default(given: dict[str, Any], default: Any) -> str:
    if default is None:
        return "none"
    if isinstance(default, BaseModel):
        if isinstance(default, alarms.AlarmSpec):
            return f"`{default.threshold:g}` over {default.over_steps} step{'s' * (default.over_steps > 1)}"
        return "its own defaults"
    if isinstance(default, dict | tuple | list | str) and not default:
        return "empty"
    value = given.get("default", default)
    return f"`{_cell(value if isinstance(value, str) else json.dumps(value))}`"


def _type(given: dict[str, Any]) -> str:
    """A JSON Schema in words; what it names links to its table."""
    if "$ref" in given:
        name = given["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})" if name in LISTED else f"`{name}`"
    for key in ("anyOf", "oneOf"):
        names = {one.get("$ref", "").rpartition("/")[2] for one in given.get(key, ())}
        for title, words in UNIONS.items():
            if len(names) > 1 and names <= {one.__name__ for one in GROUPS[title]}:
                return words
        if key in given:
            kinds = [_type(one) for one in given[key] if one.get("type") != "null"]
            return ", or ".join(dict.fromkeys(kinds))
    if "const" in given:
        return f"`{given['const']}`"
    if "enum" in given:
        return ", ".join(f"`{one}`" for one in given["enum"])
    kind = given.get("type", "anything")
    if kind == "array":
        parts = given.get("prefixItems")
        words = " and ".join(_type(one) for one in parts) if parts else f"list of {_type(given.get('items', {}))}"
        return words + ("" if parts else _bounds(given))
    if kind == "object" and isinstance(given.get("additionalProperties"), dict) and given["additionalProperties"]:
        return f"mapping of names to {_type(given['additionalProperties'])}"
    formats = {"path": "path", "uri": "URL"}
    word = formats.get(given.get("format", ""), TYPES.get(kind, kind))
    return word + _bounds(given)


def _bounds(given: dict[str, Any]) -> str:
    if given.get("format") == "uri":
        return ""
    bounds = [f"{words} {given[key]:.12g}" for key, words in EXCLUSIVE.items() if key in given]
    for unit, (lowest, highest) in BOUNDS.items():
        least, most = given.get(lowest), given.get(highest)
        if least is not None and most is not None:
            bounds.append(f"{least:.12g} to {most:.12g}{unit}")
        elif least is not None:
            bounds.append(f"at least {least:.12g}{unit}")
        elif most is not None:
            bounds.append(f"at most {most:.12g}{unit}")
    return f" ({', '.join(bounds)})" if bounds else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


PAGES = {"cli.md": cli_page, "fields.md": fields_page}

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for file, page in PAGES.items():
        (FOLDER / file).write_text(page(), encoding="utf-8")
