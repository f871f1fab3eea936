"""Spans as the rest of the package sees them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Protocol

# None is left out.
Attributes = Mapping[str, str | int | float | bool | Sequence[str] | None]


class Span(Protocol):
    """Something that is being done.

    Attributes:
        takes_contents: whether what the agent and its tools wrote may be attributes.
    """

    takes_contents: bool

    def set(self, attributes: Attributes) -> None: ...

    def fail(self, kind: str) -> None:
        """It failed, by what `error.type` says. An exception that leaves the span does that by itself."""
        ...


class Tracer(Protocol):
    """Makes spans."""

    def span(self, name: str, attributes: Attributes, trace_id: str | None) -> AbstractContextManager[Span]: ...

    def headers(self) -> dict[str, str]:
        """What a request carries, so that spans of the server join the current one: W3C's `traceparent`."""
        ...


class NoSpan:
    """Nobody looks."""

    takes_contents = False

    def __enter__(self) -> "NoSpan":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def set(self, attributes: Attributes) -> None:
        pass

    def fail(self, kind: str) -> None:
        pass


NO_SPAN = NoSpan()


@dataclass(frozen=True)
class _Scope:
    tracer: Tracer
    attributes: Attributes = field(default_factory=dict[str, str])


# Inherited by all tasks that are begun inside.
_scope: ContextVar[_Scope | None] = ContextVar("agentrft_tracing", default=None)


def span(name: str, attributes: Attributes, *, trace_id: str | None = None) -> AbstractContextManager[Span]:
    """A span below the current one.

    Args:
        trace_id: of a rollout, whose span is the first of its trace; its 32 hexadecimal digits are W3C's id.
    """
    scope = _scope.get()
    if scope is None:
        return NO_SPAN
    return scope.tracer.span(name, {**scope.attributes, **attributes}, trace_id)


def outgoing_headers() -> dict[str, str]:
    """The headers that lead from the current span to those of a server; none without one."""
    scope = _scope.get()
    return {} if scope is None else scope.tracer.headers()


def span_attributes() -> Attributes | None:
    """What all spans have that would be made now; None where none are."""
    scope = _scope.get()
    return None if scope is None else scope.attributes


@contextmanager
def tracing(tracer: Tracer, attributes: Attributes) -> Iterator[None]:
    """Inside, spans are made by a tracer, all with these attributes."""
    token = _scope.set(_Scope(tracer, attributes))
    try:
        yield
    finally:
        _scope.reset(token)


@contextmanager
def with_attributes(attributes: Attributes) -> Iterator[None]:
    """Inside, all spans have these attributes, too."""
    scope = _scope.get()
    if scope is None:
        yield
        return
    token = _scope.set(replace(scope, attributes={**scope.attributes, **attributes}))
    try:
        yield
    finally:
        _scope.reset(token)
