"""What generates a job's rollouts, as a job file says it."""

import shlex
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, HttpUrl, field_validator, model_validator

from agentrft.spec.base import SpecModel

# What only an engine in the job's own process has, and only a server.
EMBEDDED_FIELDS = ("device", "max_batch_size", "prefill_tokens_per_step", "kv_cache_mb", "cuda_graphs")
VLLM_FIELDS = ("url", "urls", "command", "model", "headers", "adapters", "sleep", "hang_timeout_s")


class EngineSpec(SpecModel):
    """What generates, and its limits.

    Attributes:
        type: "embedded" generates in the job's own process; "vllm" by vLLM servers.
        url: of a vLLM server that is there already, such as http://127.0.0.1:8000.
        urls: of several of them, with the same model; a rollout stays with one.
        command: starts a vLLM server with the job, such as `vllm serve --gpu-memory-utilization 0.5`; the job adds what
            it knows itself, watches over it, starts it anew when it ends or hangs, and ends it. Without this and
            without a URL it is the one of `agentrft engines install vllm`.
        model: as the servers call the job's model; its name in the job without it.
        headers: sent with every request; `${NAME}` in a value is read from the environment. Never stored, shown or
            logged.
        adapters: folder in which the servers find each version's weights; they must see it under the same path. Without
            it one of this machine's temporary ones.
        sleep: whether the servers give their memory back during updates, for a GPU that both share.
        hang_timeout_s: for how many seconds a server may neither answer nor get on with what it is asked before it
            is started anew, or an event says so where it is not the job's.
        device: where it generates, such as `cpu` or `cuda:1`; "auto" is where the policy is trained. On another device
            it has a copy of the model.
        max_concurrent_rollouts: rollouts that run at once, however long they may become.
        max_batch_size: sequences in one decode pass.
        prefill_tokens_per_step: tokens of prompts and tool results that one pass computes.
        turn_timeout_s: deadline of one turn's generation in seconds, waiting included.
        kv_cache_mb: what keys and values of all rollouts together may take, in MB; "auto" is a quarter of the memory of
            the device. Where they do not fit, some rollouts wait for others to end, or are computed again.
        cuda_graphs: whether passes that sample one token of each rollout are recorded and replayed on a GPU, where that
            is faster. It takes some hundred MB. A CPU has none, and a deterministic job does without.
    """

    type: Literal["embedded", "vllm"] = "embedded"
    url: HttpUrl | None = Field(default=None, repr=False)
    urls: tuple[HttpUrl, ...] = Field(default=(), repr=False)
    command: tuple[str, ...] = ()
    model: Annotated[str, Field(min_length=1)] | None = None
    headers: dict[str, str] = Field(default_factory=dict, repr=False)
    adapters: Path | None = None
    sleep: bool = False
    hang_timeout_s: Annotated[float, Field(gt=0)] = 120.0
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:[0-9]+)?)$")] = "auto"
    max_concurrent_rollouts: Annotated[int, Field(ge=1)] = 64
    max_batch_size: Annotated[int, Field(ge=1)] = 64
    prefill_tokens_per_step: Annotated[int, Field(ge=16)] = 2048
    turn_timeout_s: Annotated[float, Field(gt=0)] = 600.0
    kv_cache_mb: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    cuda_graphs: bool = True

    @property
    def server_urls(self) -> list[str]:
        """Of the servers that are there already; empty where one is to be started."""
        return [str(url) for url in ((self.url,) if self.url is not None else self.urls)]

    @field_validator("command", mode="before")
    @classmethod
    def _is_words(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return tuple(shlex.split(value))
        except ValueError as error:
            raise ValueError(f"it is no command that a shell takes: {error}") from None

    @field_validator("urls")
    @classmethod
    def _have_no_secrets(cls, urls: tuple[HttpUrl, ...]) -> tuple[HttpUrl, ...]:
        if any(url.username or url.password or url.query for url in urls):
            raise ValueError("what a server needs to let the job in belongs into headers, and not into urls")
        if len(set(urls)) < len(urls):
            raise ValueError("one of them is there twice")
        return urls

    @model_validator(mode="after")
    def _fields_are_of_the_type(self) -> Self:
        others = EMBEDDED_FIELDS if self.type == "vllm" else VLLM_FIELDS
        fields = type(self).model_fields
        given = [name for name in others if getattr(self, name) != fields[name].get_default(call_default_factory=True)]
        if given:
            raise ValueError(f"{given[0]} is not a setting of an engine of type '{self.type}'")
        places = [name for name in ("url", "urls", "command") if getattr(self, name)]
        if len(places) > 1:
            raise ValueError(f"give one of url, urls and command, not {' and '.join(places)}")
        return self
