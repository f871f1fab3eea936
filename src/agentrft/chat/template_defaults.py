"""A chat template that gives some of its variables values of their own, so that a model talks as it was trained to."""

from collections.abc import Mapping

Scalar = bool | int | float | str


def with_defaults(template: str, variables: Mapping[str, Scalar]) -> str:
    """The template, in which `variables` have these values wherever who renders it does not set them.

    It is meant for environments that drop the first line break behind a block, as transformers' and vLLM's do.
    """
    lines = [
        f"{{% if {name} is not defined %}}{{% set {name} = {_literal(value)} %}}{{% endif %}}\n"
        for name, value in variables.items()
    ]
    return "".join(lines) + template


def _literal(value: Scalar) -> str:
    """As Jinja writes it; it reads the escapes of texts as Python does."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + value.encode("unicode_escape").decode().replace('"', '\\"') + '"'
    return repr(value)
