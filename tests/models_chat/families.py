"""The families of models whose chat is tested, with where each template comes from."""

import zipfile
from dataclasses import dataclass, field
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerFast

from agentrft.models.catalog import resolve_model
from agentrft.models.load import model_folder
from scripts.fetch_templates import WHEEL, cached_wheel
from tests.models_chat import reconstructions
from tests.models_chat.reconstructions import deepseek_token
from tests.models_chat.tokenizers import tokenizer_for

OURS = "our reconstruction"
CHATML_END = "<|im_end|>"


@dataclass(frozen=True)
class Family:
    """A family and its template.

    Attributes:
        name: of the family.
        models: their ids, as examples.
        architectures: their `model_type`, one or several with commas.
        template: a name in `reconstructions`, or that of a file of the wheel that the script fetches.
        end, begin: tokens that end and begin a text.
        variables: of the template.
        more: control tokens that the template does not name.
        is_ours: the template is a reconstruction.
        spaced: the tokenizer is like SentencePiece's.
        built_in: our model, with its own tokenizer and template.
        plain_quotes: the template writes text in single quotes and does not escape those in it.
    """

    name: str
    models: str
    architectures: str
    template: str
    end: str = CHATML_END
    begin: str = "<|endoftext|>"
    variables: dict[str, Any] = field(default_factory=dict)
    more: tuple[str, ...] = ()
    is_ours: bool = False
    spaced: bool = False
    plain_quotes: bool = False
    built_in: bool = False

    @property
    def source(self) -> str:
        """Where the template comes from, for people."""
        if self.built_in:
            return "the model's own"
        return OURS if self.is_ours else f"{WHEEL.partition('-py3')[0]}: {self.template}"

    def text(self) -> str | None:
        """The template; None where it has not been fetched."""
        if self.is_ours:
            return getattr(reconstructions, self.template)
        wheel = cached_wheel()
        if wheel is None:
            return None
        with zipfile.ZipFile(wheel) as opened:
            return opened.read(f"trl/chat_templates/{self.template}.jinja").decode()

    def tokenizer(self) -> PreTrainedTokenizerFast | None:
        """One with the template; None where that has not been fetched."""
        if self.built_in:
            return AutoTokenizer.from_pretrained(model_folder(resolve_model(self.template)))
        text = self.text()
        if text is None:
            return None
        return tokenizer_for(text, end=self.end, begin=self.begin, more=self.more, spaced=self.spaced)


def _ours(name: str, models: str, architectures: str, template: str, **more: Any) -> Family:
    return Family(name, models, architectures, template, is_ours=True, **more)


_DEEPSEEK: dict[str, Any] = {
    "end": deepseek_token("end of sentence"),
    "begin": deepseek_token("begin of sentence"),
}
_LLAMA: dict[str, Any] = {"end": "<|eot_id|>", "begin": "<|begin_of_text|>", "more": ("<|eom_id|>", "<|python_tag|>")}
_GEMMA: dict[str, Any] = {"end": "<end_of_turn>", "begin": "<bos>"}
_MISTRAL: dict[str, Any] = {"end": "</s>", "begin": "<s>"}
_NOT: dict[str, Any] = {"enable_thinking": False}

FAMILIES = [
    Family("Qwen2.5", "Qwen/Qwen2.5-0.5B-Instruct … 72B, Qwen2.5-Coder", "qwen2", "qwen2_5"),
    Family("Qwen3", "Qwen/Qwen3-0.6B … 235B-A22B", "qwen3, qwen3_moe", "qwen3"),
    Family("Qwen3, not thinking", "the same", "qwen3, qwen3_moe", "qwen3", variables=_NOT),
    Family("Qwen3 2507", "Qwen/Qwen3-4B-Instruct-2507 …", "qwen3, qwen3_moe", "qwen3_instruct_2507"),
    _ours("Qwen3-Coder", "Qwen/Qwen3-Coder-30B-A3B-Instruct …", "qwen3_moe, qwen3_next", "QWEN_3_CODER"),
    Family("Qwen3.5", "Qwen/Qwen3.5-4B, 9B, 35B-A3B …", "qwen3_5, qwen3_5_moe", "qwen3_5_think"),
    Family("Qwen3.5, not thinking", "the same", "qwen3_5, qwen3_5_moe", "qwen3_5_think", variables=_NOT),
    Family("Qwen3.5 small", "Qwen/Qwen3.5-0.8B, 2B", "qwen3_5", "qwen3_5_nothink"),
    Family("Qwen3.6", "Qwen/Qwen3.6-35B-A3B", "qwen3_5_moe", "qwen3_6"),
    Family("Qwen3.8", "Qwen/Qwen3.8-27B", "qwen3_5, qwen3_5_moe", "qwen3_8"),
    Family("Llama 3", "meta-llama/Meta-Llama-3-8B-Instruct", "llama", "llama3", **_LLAMA),
    Family("Llama 3.1, 3.3", "meta-llama/Llama-3.1-8B-Instruct, Llama-3.3-70B-Instruct", "llama", "llama3_1", **_LLAMA),
    Family("Llama 3.2", "meta-llama/Llama-3.2-1B-Instruct, 3B", "llama", "llama3_2", **_LLAMA),
    _ours("Mistral 3", "mistralai/Mistral-7B-Instruct-v0.3", "mistral, mixtral", "MISTRAL_3", spaced=True, **_MISTRAL),
    _ours(
        "Mistral 11",
        "mistralai/Mistral-Small-3.2-24B-Instruct, Ministral",
        "mistral, ministral3",
        "MISTRAL_11",
        **_MISTRAL,
    ),
    Family("Gemma 1, 2", "google/gemma-2-2b-it …", "gemma2", "gemma", spaced=True, **_GEMMA),
    Family("Gemma 3", "google/gemma-3-270m-it … 27b-it", "gemma3", "gemma3", spaced=True, **_GEMMA),
    Family(
        "Gemma 4", "google/gemma-4-E2B-it … 31B-it", "gemma4", "gemma4_v5", end="<turn|>", begin="<bos>", spaced=True
    ),
    Family(
        "Gemma 4, thinking",
        "the same",
        "gemma4",
        "gemma4_v5",
        end="<turn|>",
        begin="<bos>",
        variables={"enable_thinking": True},
    ),
    _ours("FunctionGemma", "google/functiongemma-270m-it", "gemma3", "FUNCTION_GEMMA", **_GEMMA),
    Family("DeepSeek V3, R1", "deepseek-ai/DeepSeek-R1 …", "deepseek_v3", "deepseekv3", **_DEEPSEEK),
    _ours("DeepSeek V3.1", "deepseek-ai/DeepSeek-V3.1", "deepseek_v3", "DEEPSEEK_31", **_DEEPSEEK),
    Family(
        "DeepSeek R1 distilled",
        "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B …",
        "qwen2, llama",
        "deepseek_r1_distill",
        **_DEEPSEEK,
    ),
    Family("GLM-4.5", "zai-org/GLM-4.5-Air …", "glm4_moe", "glm4moe", end="<|endoftext|>"),
    Family("GLM-4.5, not thinking", "the same", "glm4_moe", "glm4moe", end="<|endoftext|>", variables=_NOT),
    _ours(
        "Kimi K2",
        "moonshotai/Kimi-K2-Instruct",
        "deepseek_v3",
        "KIMI_K2",
        more=("<|im_user|>", "<|im_system|>", "<|im_tool|>"),
    ),
    Family("gpt-oss", "openai/gpt-oss-20b, 120b", "gpt_oss", "gptoss", end="<|return|>", more=("<|constrain|>",)),
    Family("Phi-3, 3.5", "microsoft/Phi-3.5-mini-instruct …", "phi3", "phi3_5", end="<|endoftext|>"),
    _ours("Phi-4", "microsoft/phi-4", "phi3", "PHI_4"),
    _ours(
        "Phi-4-mini",
        "microsoft/Phi-4-mini-instruct",
        "phi3",
        "PHI_4_MINI",
        end="<|endoftext|>",
        more=("<|user|>", "<|tool_call|>", "<|/tool_call|>"),
    ),
    _ours("Granite 3", "ibm-granite/granite-3.3-2b-instruct …", "granite", "GRANITE_3", end="<|end_of_text|>"),
    _ours("Granite 4", "ibm-granite/granite-4.0-micro …", "granitemoehybrid", "GRANITE_4", end="<|end_of_text|>"),
    _ours("SmolLM3", "HuggingFaceTB/SmolLM3-3B", "smollm3", "SMOLLM_3"),
    _ours("SmolLM3, not thinking", "the same", "smollm3", "SMOLLM_3", variables=_NOT),
    _ours("Hermes", "NousResearch/Hermes-3-Llama-3.2-3B …", "llama", "HERMES"),
    Family(
        "LFM2", "LiquidAI/LFM2-1.2B …", "lfm2, lfm2_moe", "lfm2_v2", more=("<|tool_call_start|>", "<|tool_call_end|>")
    ),
    Family("LFM2.5", "LiquidAI/LFM2.5-1.2B-Instruct …", "lfm2", "lfm2_2_5_v2", plain_quotes=True),
    Family("Nemotron 3", "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16 …", "nemotron_h", "nemotron_3_nano"),
    Family(
        "Cohere 2", "CohereLabs/tiny-aya-earth", "cohere2", "cohere2", end="<|END_OF_TURN_TOKEN|>", begin="<BOS_TOKEN>"
    ),
    Family("SmolLM2", "HuggingFaceTB/SmolLM2-135M-Instruct … 1.7B", "llama", "smollm2-135m", built_in=True),
]
