"""What becomes of a request's fields: most are honoured, some have no effect, and some are refused with the reason.

A field says so itself, by `Ignored` or `Refused` in its annotation. The lists in docs/server.md are made of these.
"""

from dataclasses import dataclass
from typing import Any

from pydantic import ConfigDict, model_validator
from pydantic.fields import FieldInfo

from agentrft.server.inference.errors import FieldFault
from agentrft.spec.base import SpecModel


@dataclass(frozen=True)
class Ignored:
    """A field that is taken and has no effect; the answer's warning header names it.

    Attributes:
        why: it makes no difference to the answer.
        neutral: values that ask for what happens anyway; they need no warning.
    """

    why: str
    neutral: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Refused:
    """A field that is a 400, since without it the answer would be another than was asked for.

    Attributes:
        why: it cannot be honoured.
        neutral: values that ask for what happens anyway, which are taken.
    """

    why: str
    neutral: tuple[Any, ...] = ()


class RequestModel(SpecModel):
    """A request or a part of one. A field that is null is one that is not given, as OpenAI's own client has it."""

    model_config = ConfigDict(strict=True)

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls_and_refuse(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        kept = {name: value for name, value in given.items() if value is not None}
        for name, field in cls.model_fields.items():
            rule, shown = rule_of(field), field.alias or name
            if isinstance(rule, Refused) and shown in kept and kept[shown] not in rule.neutral:
                raise FieldFault(rule.why, f".{shown}", "unsupported_parameter")
        return kept

    @property
    def ignored(self) -> list[str]:
        """Fields that were given, and have no effect: their paths, such as `text.verbosity`."""
        paths: list[str] = []
        for name in self.model_fields_set:
            field, value = type(self).model_fields[name], getattr(self, name)
            shown, rule = field.alias or name, rule_of(field)
            if isinstance(rule, Ignored):
                paths += [] if value in rule.neutral else [shown]
            else:
                paths += _ignored_inside(value, shown)
        return sorted(paths)


def rule_of(field: FieldInfo) -> Ignored | Refused | None:
    """The field's rule; None where it is honoured."""
    return next((rule for rule in field.metadata if isinstance(rule, Ignored | Refused)), None)


def _ignored_inside(value: Any, path: str) -> list[str]:
    if isinstance(value, RequestModel):
        return [f"{path}.{name}" for name in value.ignored]
    if isinstance(value, list):
        return [name for index, one in enumerate(value) for name in _ignored_inside(one, f"{path}[{index}]")]
    return []
