"""A Python function's signature and docstring, as the schema of its arguments; and arguments, as it takes them."""

import inspect
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, create_model
from pydantic.fields import FieldInfo
from pydantic.json_schema import PydanticJsonSchemaWarning

from agentrft.errors import UserError
from agentrft.spec.json_schema.work import MAPS
from agentrft.tools.python_calling import described, was_raised
from agentrft.wire import WireError, check, clean, clean_text, is_list, is_object

# Parameters that the rollout fills; the model does not see them.
GIVEN = ("trace_id", "item")
ARGUMENT_LINE = re.compile(r"^\s*\*{0,2}(\w+)\s*(?:\([^)]*\))?:\s*(.+)$")


class Signature:
    """Args:
        function: the user's.
        where: what to call it in messages.
        name: the tool's.

    Attributes:
        given: those of `GIVEN` that it takes.
        description: the docstring's text before its sections.

    Raises:
        UserError: it has no signature, or one that an object of arguments does not fit.
    """

    def __init__(self, function: Callable[..., Any], where: str, name: str) -> None:
        self._where = where
        try:
            parameters = inspect.signature(function, eval_str=True).parameters
        except BaseException as error:  # annotations are the user's code
            if not was_raised(error):
                raise
            problem = f"{where}: its signature cannot be read: {described(error)}"
            raise UserError(problem, "Import what it names.") from error
        nameless = [str(one) for one in parameters.values() if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
        if nameless:
            raise UserError(f"{where}: parameter '{nameless[0]}' has no name of its own.", "Give each argument a name.")
        self._parameters = parameters
        self.given = [name for name in GIVEN if name in parameters]
        # Pydantic keeps some names to itself (`model_dump`, `_q`); the fields have neutral ones, and show the true.
        self._names = {f"argument_{n}": name for n, name in enumerate(parameters) if name not in GIVEN}
        self._model = self._as_model(name)
        self.description, self._described = _described(clean_text(inspect.getdoc(function) or ""))

    @property
    def schema(self) -> dict[str, Any]:
        """JSON Schema of the arguments.

        Raises:
            UserError: JSON has no form for a type.
        """
        try:
            with warnings.catch_warnings():
                # A default that JSON has not is left out; that is all there is to know.
                warnings.simplefilter("ignore", PydanticJsonSchemaWarning)
                schema = self._model.model_json_schema()
        except BaseException as error:  # types bring code of their own for this
            if not was_raised(error):
                raise
            raise self._no_schema(error) from error
        schema.pop("title", None)
        schema.pop("description", None)
        for name, entry in schema.get("properties", {}).items():
            entry.pop("title", None)
            if name in self._described:
                entry.setdefault("description", self._described[name])
        _leave_out_what_json_has_not(schema)
        return clean({"type": "object", "properties": {}, **schema})

    def arguments(self, value: Any, given: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """What to call the function with, by place and by name. What was left out is left to the function's defaults.

        Args:
            given: what the rollout knows, for `GIVEN`.

        Raises:
            pydantic.ValidationError: the value does not fit.
        """
        values = self._model.model_validate(value)
        known = {name: given[name] for name in self.given}
        for field, name in self._names.items():
            parameter = self._parameters[name]
            is_left_out = field not in values.model_fields_set
            # A default of `Field(4, ge=1)` is a field's, and no value; those by place leave no gap.
            if is_left_out and not isinstance(parameter.default, FieldInfo):
                known[name] = parameter.default
            else:
                known[name] = getattr(values, field)
        by_place = [known.pop(name) for name, one in self._parameters.items() if one.kind == one.POSITIONAL_ONLY]
        return by_place, known

    def _as_model(self, name: str) -> type[BaseModel]:
        fields: dict[str, Any] = {}
        for field, parameter_name in self._names.items():
            parameter = self._parameters[parameter_name]
            annotation = Any if parameter.annotation is parameter.empty else parameter.annotation
            fields[field] = (annotation, ... if parameter.default is parameter.empty else parameter.default)
        config = ConfigDict(extra="forbid", alias_generator=lambda field: self._names.get(field, field))
        try:
            return create_model(name, __config__=config, **fields)
        except BaseException as error:  # types bring code of their own for this
            if not was_raised(error):
                raise
            raise self._no_schema(error) from error

    def _no_schema(self, error: BaseException) -> UserError:
        return UserError(f"{self._where}: no schema for its signature: {described(error)}", "Use types that JSON has.")


def _described(docstring: str) -> tuple[str, dict[str, str]]:
    """The docstring's text before its sections, and what its `Args:` say of each."""
    text, _, rest = docstring.partition("\nArgs:\n")
    text = re.split(r"\n(?:Returns|Raises|Yields|Example|Examples):\n", text)[0]
    arguments: dict[str, str] = {}
    for line in rest.splitlines():
        if line and not line[0].isspace():
            break
        if found := ARGUMENT_LINE.match(line):
            arguments[found[1]] = found[2].strip()
    return text.strip(), arguments


def _leave_out_what_json_has_not(schema: dict[str, Any]) -> None:
    """Takes defaults and examples such as inf out of a schema and of those inside it: to the model, null is another."""
    for key in ("default", "example", "examples"):
        if not _is_json(schema.get(key)):
            del schema[key]
    for key, value in schema.items():
        inner = [value]
        if is_list(value):
            inner = value
        elif key in MAPS and is_object(value):
            inner = list(value.values())
        for one in inner:
            if is_object(one):
                _leave_out_what_json_has_not(one)


def _is_json(value: Any) -> bool:
    try:
        check(value)
    except WireError:
        return False
    return True
