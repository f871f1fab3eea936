"""Small tokenizers, trained here, with the control tokens of a family."""

import re
from functools import cache
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

DOCS = Path(__file__).parents[2] / "docs"
VOCABULARY = 3_000
# Words, numbers, signs, and white space that keeps line breaks together: as most families of today split text.
_PIECES = r"\'\w+|[^\r\n\w]?\p{L}+|\p{N}| ?[^\s\w]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CONTROL = re.compile(
    r"<[|\uff5c][^|\uff5c<>{}%'\s]+[|\uff5c]>|<\|[a-z_]+>|<[a-z_]+\|>|<(?:start|end)_of_turn>|<bos>|<\|\"\|>|<escape>"
    r"|<(?:start|end)_function_\w+>|\[/?[A-Z][A-Z_]+\]|\[gMASK\]|<sop>"
)
_MARKUP = ["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>"]
_MARKUP += ["<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"]


def tokenizer_for(
    template: str, *, end: str, begin: str, more: tuple[str, ...], spaced: bool
) -> PreTrainedTokenizerFast:
    """A tokenizer with the template and all control tokens that this names.

    Args:
        template: the chat template.
        end, begin: `eos_token` and `bos_token`.
        more: further control tokens.
        spaced: words carry the space before them in a letter of its own, as SentencePiece's do, rather than bytes.
    """
    made = Tokenizer.from_str(_trained(spaced))
    special = dict.fromkeys([begin, end, *more, *_CONTROL.findall(template)])
    made.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special])
    made.add_tokens([AddedToken(text, special=False, normalized=False) for text in _MARKUP if text in template])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, bos_token=begin, eos_token=end)
    tokenizer.chat_template = template
    return tokenizer


@cache
def _trained(spaced: bool) -> str:
    texts = [path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("*.md"))]
    if spaced:
        made = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
        made.normalizer = normalizers.Sequence([normalizers.Replace(" ", "\u2581")])
        made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        made.decoder = decoders.Sequence(
            [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        bytes_ = [f"<0x{value:02X}>" for value in range(256)]
        trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=["<unk>", *bytes_], show_progress=False)
        # Words alone, or a merge would reach over several.
        texts = [word for text in texts for word in re.findall(r" ?\S+", text)]
    else:
        made = Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_PIECES), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        made.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=VOCABULARY, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
        )
    made.train_from_iterator(texts, trainer)
    return made.to_str()
