"""The codecs of one loaded model: one for each set of variables of its chat template that requests ask for."""

import json
from collections import OrderedDict
from collections.abc import Mapping
from threading import Lock
from typing import Any

from transformers import PreTrainedTokenizerFast

from agentrft.chat import ChatCodec, load_codec
from agentrft.chat.variables import template_text, template_variables

MOST_CODECS = 16


class Codecs:
    """Makes codecs and keeps the last `MOST_CODECS` of them; safe to call from several threads.

    Attributes:
        variables: those that the template has.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, model_name: str) -> None:
        self._tokenizer = tokenizer
        self._model_name = model_name
        self._made: OrderedDict[str, ChatCodec] = OrderedDict()
        self._lock = Lock()
        self.variables = template_variables(template_text(tokenizer) or "")

    def known(self, values: Mapping[str, Any]) -> ChatCodec | None:
        """The codec of these variables, if it is made already."""
        with self._lock:
            return self._made.get(_key(values))

    def make(self, values: Mapping[str, Any]) -> ChatCodec:
        """The codec of these variables; it takes a moment, so not on an event loop.

        Raises:
            UserError: the template has no such variable, or takes no such value.
        """
        with self._lock:
            key = _key(values)
            if key not in self._made:
                self._made[key] = load_codec(self._tokenizer, self._model_name, template_kwargs=values)
            self._made.move_to_end(key)
            while len(self._made) > MOST_CODECS:
                self._made.popitem(last=False)
            return self._made[key]


def _key(values: Mapping[str, Any]) -> str:
    return json.dumps(values, sort_keys=True)
