"""Token ids that are written one part after another, with what the `renderers` package wants to know of each."""

from collections.abc import Iterable, Sequence

from renderers.base import Message, RenderedTokens, extract_message_tool_names


class TokenStream:
    """A rendering while it is written."""

    def __init__(self) -> None:
        self._ids: list[int] = []
        self._message_indices: list[int] = []
        self._sampled: list[bool] = []
        self._content: list[bool] = []

    def add(self, ids: Iterable[int], index: int, *, sampled: bool = False, content: bool = False) -> None:
        """Ids of the message at `index`, -1 for those of none."""
        new = list(ids)
        self._ids += new
        self._message_indices += [index] * len(new)
        self._sampled += [sampled] * len(new)
        self._content += [content] * len(new)

    def as_rendered(self, messages: Sequence[Message]) -> RenderedTokens:
        return RenderedTokens(
            token_ids=self._ids,
            message_indices=self._message_indices,
            sampled_mask=self._sampled,
            is_content=self._content,
            message_roles=[message["role"] for message in messages],
            message_tool_names=extract_message_tool_names(list(messages)),
        )
