"""Demonstrations as a model would have sampled them, turn by turn, with what a rollout appends between.

So what a warm start trains on is what sampling would have made, for every renderer.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from agentrft.chat.preparation import envelopes
from agentrft.chat.template import TemplateRenderer
from agentrft.errors import UserError

if TYPE_CHECKING:
    from agentrft.chat.codec import ChatCodec

Messages = Sequence[Mapping[str, Any]]
Tools = Sequence[Mapping[str, Any]]


class Demonstrations:
    """The demonstrations of one codec.

    Args:
        codec: renders prompts and appends.
        ends_thoughts: its prompts end what the model could think, so that demonstrations are shown without.
    """

    def __init__(self, codec: "ChatCodec", *, ends_thoughts: bool = False) -> None:
        self._codec = codec
        self._ends_thoughts = ends_thoughts

    def rows(self, messages: Messages, tools: Tools) -> list[tuple[list[int], list[bool]]]:
        """As `ChatCodec.training_rows`."""
        rows: list[tuple[list[int], list[bool]]] = []
        ids: list[int] = []
        mask: list[bool] = []
        messages = self.shown(messages)
        for turn in (index for index, message in enumerate(messages) if message["role"] == "assistant"):
            if not ids and self._is_spoken_first(messages[:turn]):
                continue
            if not ids:
                ids = self._codec.prompt_ids(messages[:turn], tools) if turn else []
                mask = [False] * len(ids)
            sampled, rest = self.sampled(messages, turn, tools)
            following = list(takewhile(lambda one: one["role"] != "assistant", messages[turn + 1 :]))
            suffix = self._codec.append(ids, sampled, following, tools) if following and ids else None
            after = rest if suffix is None and not following else suffix or []
            ids = [*ids, *sampled, *after]
            mask = [*mask, *[messages[turn].get("weight") != 0] * len(sampled), *[False] * len(after)]
            if suffix is None:
                rows.append((ids, mask))
                ids, mask = [], []
        rows = [row for row in [*rows, (ids, mask)] if any(row[1])]
        if not rows:
            raise UserError(
                "A demonstration holds no token that the model would write.",
                "Give each demonstration an assistant's message with content or tool calls.",
            )
        return rows

    def shown(self, messages: Messages) -> list[dict[str, Any]]:
        """As `ChatCodec.demonstration`."""
        shown = [dict(message) for message in messages]
        if isinstance(self._codec.renderer, TemplateRenderer):
            shown, _ = self._codec.renderer.template.split(messages)
        for message in shown if self._ends_thoughts else []:
            message.pop("reasoning_content", None)
        return shown

    def sampled(self, messages: Messages, turn: int, tools: Tools) -> tuple[list[int], list[int]]:
        """What is sampled of a turn, and what the template writes after it where nothing follows."""
        # In some templates the token that ends a turn is the one that begins the tool results after it.
        end = turn + 1
        while end < len(messages) and messages[end]["role"] == "tool":
            end += 1
        if isinstance(self._codec.renderer, TemplateRenderer):
            return self._codec.renderer.sampled_ids(self._codec.prepared(messages[:end]), turn, envelopes(tools)), []
        ids, mask = self._row(messages[:end], turn, tools)
        prompt = self._codec.prompt_ids(messages[:turn], tools) if turn else []
        places = [place for place, sampled in enumerate(mask) if sampled]
        if not places:
            return [], []
        last = places[-1] + 1
        is_ended = ids[last - 1] in self._codec.stop_ids or messages[turn].get("tool_calls")
        ended = [] if is_ended else self._answer_end
        if ids[: len(prompt)] == prompt:
            return [*(ids[len(prompt) : last] if prompt else ids[places[0] : last]), *ended], ids[last:]
        before, whole = self._codec.text_of(prompt), self._codec.text_of(ids[:last])
        if whole.startswith(before):
            # Where the two meet, the tokenizer made one token of what stands on both sides.
            return [*self._codec.encode(whole[len(before) :]), *ended], ids[last:]
        return [*ids[places[0] : last], *ended], ids[last:]

    def _row(self, messages: Messages, turn: int, tools: Tools) -> tuple[list[int], list[bool]]:
        """The messages with the mask of one assistant's tokens, as the renderer has it."""
        rendered = self._codec.renderer.render(self._codec.prepared(messages), tools=envelopes(tools))
        if len(rendered.sampled_mask) != len(rendered.token_ids):
            raise UserError(
                f"The warm start cannot tell which tokens are the model's with {type(self._codec.renderer).__name__}: "
                "this model's chat template is opaque.",
                "Leave out `warm_start`, or train a model with a renderer of its own or a plain ChatML template.",
            )
        mask = [
            sampled and index == turn
            for sampled, index in zip(rendered.sampled_mask, rendered.message_indices, strict=True)
        ]
        return rendered.token_ids, mask

    @cached_property
    def _answer_end(self) -> list[int]:
        """The token that ends an answer, where the template writes that with what follows alone; else none."""
        spoken = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        try:
            alone = self._codec.renderer.render_ids(self._codec.prepared(spoken))
            followed = self._codec.prompt_ids([*spoken, spoken[0]])
        except (UserError, ValueError):
            return []
        ends = followed[len(alone) : len(alone) + 1] if followed[: len(alone)] == alone else []
        return [token_id for token_id in ends if token_id in self._codec.stop_ids]

    def _is_spoken_first(self, before: Messages) -> bool:
        """Whether nobody has spoken before a turn: to a template that is no turn, and it is context only."""
        is_template = isinstance(self._codec.renderer, TemplateRenderer)
        return is_template and not any(message["role"] == "user" for message in before)
