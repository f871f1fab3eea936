"""The codecs of one loaded model: one for each set of variables of its chat template that requests ask for."""

import json
from collections import OrderedDict
from collections.abc import Mapping
from threading import Lock
from typing import Any

from transformers import PreTrainedTokenizerFast

from agentrft.chat import ChatCodec, load_codec
from agentrft.chat.variables import template_text
from agentrft.template_variables import template_variables

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
        # Apart, so that who asks for a known one does not wait for another that is being made.
        self._making = Lock()
        self.variables = template_variables(template_text(tokenizer) or "")

    def known(self, values: Mapping[str, Any]) -> ChatCodec | None:
        """The codec of these variables, if it is made already."""
        with self._lock:
            found = self._made.get(_key(values))
            if found is not None:
                self._made.move_to_end(_key(values))
            return found

    def make(self, values: Mapping[str, Any]) -> ChatCodec:
        """The codec of these variables; it takes a moment, so not on an event loop.

        Raises:
            UserError: the template has no such variable, or takes no such value.
        """
        with self._making:
            found = self.known(values)
            if found is not None:
                return found
            made = load_codec(self._tokenizer, self._model_name, template_kwargs=values)
            with self._lock:
                self._made[_key(values)] = made
                while len(self._made) > MOST_CODECS:
                    self._made.popitem(last=False)
            return made


def _key(values: Mapping[str, Any]) -> str:
    return json.dumps(values, sort_keys=True)
