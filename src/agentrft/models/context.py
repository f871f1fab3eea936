"""How long a sequence a model takes, as its configuration says it."""

from collections.abc import Mapping
from typing import Any, cast

from agentrft.wire import is_object

# Of a configuration, the first that is there; older families have names of their own.
NAMES = ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "seq_length")
# Kinds of rotary scaling, and families, whose `max_position_embeddings` is the length after it. Of the others it may be
# the one before.
SCALED_ALREADY = ("llama3", "default", "proportional")
# Kinds that rotate otherwise as soon as any sequence of a pass is longer than they were made for. A token's keys would
# depend on what else is computed with it, so that length is the limit.
LENGTH_DEPENDENT = ("longrope", "su", "dynamic")
FAMILIES_SCALED_ALREADY = ("gemma3", "gemma3_text")


def model_context_tokens(config: Mapping[str, Any]) -> int | None:
    """The longest sequence in tokens, its rotary embedding's scaling included; None where nothing says it.

    Args:
        config: as in `config.json`, or `PretrainedConfig.to_dict()`. Of a composite model it is the text's part.
    """
    inner = config.get("text_config")
    if is_object(inner):
        return model_context_tokens(inner)
    stated = next((found for name in NAMES if (found := _length(config.get(name))) is not None), None)
    if stated is None:
        return None
    rotary = config.get("rope_scaling") or config.get("rope_parameters")
    if not is_object(rotary) or config.get("model_type") in FAMILIES_SCALED_ALREADY:
        return stated
    # Where layers of several kinds have several embeddings, the shortest counts.
    several = [cast(Mapping[str, Any], one) for one in rotary.values() if is_object(one)]
    return min((_scaled(stated, one) for one in several or [rotary]), default=stated)


def _scaled(stated: int, rotary: Mapping[str, Any]) -> int:
    kind = rotary.get("rope_type", rotary.get("type", "default"))
    factor = rotary.get("factor")
    if kind in LENGTH_DEPENDENT:
        return _length(rotary.get("original_max_position_embeddings")) or stated
    if kind in SCALED_ALREADY or not isinstance(factor, int | float):
        return stated
    original = _length(rotary.get("original_max_position_embeddings")) or stated
    return max(stated, int(original * factor))


def _length(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
