"""The chat template of a simulated model: ids that stand for many tokens, and turns that call or answer."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from agentrft.chat import AssistantTurn, ChatCodec
from agentrft.chat.codec import ParsedCall
from benchmarks.simulate.costs import ANSWER, TOOL
from benchmarks.simulate.engine import ANSWERS
from benchmarks.simulate.work import Work

ARGUMENTS = '{"word": "fever"}'


class SimulatedCodec:
    """What the rollout loop asks of a codec; what the real one costs is in `Costs.turn_s`."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self.stop_ids = [ANSWERS]

    def prompt_ids(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()) -> list[int]:
        """Of the first turn."""
        return [self._work.prompt_tokens]

    def append(
        self,
        prompt_ids: Sequence[int],
        sampled_ids: Sequence[int],
        new_messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> list[int]:
        """Of the results of the turn's calls."""
        return [self._work.result_tokens] * len(new_messages)

    def parse(
        self,
        sampled_ids: Sequence[int],
        prompt_ids: Sequence[int],
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        new_call_id: Callable[[], str],
    ) -> AssistantTurn:
        """An answer, right or wrong as its length is even or odd; or a call."""
        tokens, kind = sampled_ids
        if kind == ANSWERS:
            content = ANSWER if tokens % 2 else "no answer that is right"
            return AssistantTurn(content, [], {"role": "assistant", "content": content})
        function = {"name": TOOL["name"], "arguments": ARGUMENTS}
        call = {"id": new_call_id(), "type": "function", "function": function}
        return AssistantTurn(
            "", [ParsedCall(TOOL["name"], ARGUMENTS)], {"role": "assistant", "content": "", "tool_calls": [call]}
        )


def simulated_codec(work: Work) -> ChatCodec:
    """As the rollout loop's type wants it."""
    return cast(ChatCodec, SimulatedCodec(work))
