"""Chat templates written for these tests, each in the manner of a family of models, and the tokens that it needs."""

from dataclasses import dataclass, field

from transformers import PreTrainedTokenizerFast

from tests.chat.templated import with_tokens


@dataclass(frozen=True)
class Family:
    """A template and the tokens that the tokenizer of its models has of its own."""

    template: str
    end: str
    special: list[str] = field(default_factory=list)
    markup: list[str] = field(default_factory=list)

    def tokenizer(self, base: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
        made = with_tokens(base, self.special, self.markup)
        made.chat_template = self.template
        made.eos_token = self.end
        return made


CALLS = ["<tool_call>", "</tool_call>"]

# As Qwen2.5's: tools in the system's message, results in a user's turn, nothing written anew.
HERMES = Family(
    """{%- set first = messages[0].content if messages[0].role == 'system' else 'You help.' -%}
<|im_start|>system
{{ first }}{% if tools %}

Tools:{% for tool in tools %}
{{ tool | tojson }}{% endfor %}{% endif %}<|im_end|>
{% for message in messages %}
{%- set before = messages[loop.index0 - 1].role if not loop.first else '' -%}
{%- set after = messages[loop.index0 + 1].role if not loop.last else '' -%}
{%- if message.role == 'user' or (message.role == 'system' and not loop.first) -%}
<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% elif message.role == 'assistant' -%}
<|im_start|>assistant
{{ message.content }}{% for call in message.tool_calls or [] -%}
{{ '\n' if message.content or not loop.first }}<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{% endfor %}<|im_end|>
{% elif message.role == 'tool' -%}
{% if before != 'tool' %}<|im_start|>user{% endif %}{{ '\n' }}<tool_response>
{{ message.content }}
</tool_response>{% if after != 'tool' %}<|im_end|>
{% endif %}{% endif %}{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}""",
    end="<|im_end|>",
    special=["<|im_start|>", "<|im_end|>"],
    markup=CALLS,
)

# The same with thoughts, which are left out of what stands before the last question.
THINKING = Family(
    """{%- set last = namespace(user=0) -%}
{%- for message in messages %}{% if message.role == 'user' %}{% set last.user = loop.index0 %}{% endif %}{% endfor -%}
{%- if tools %}<|im_start|>system
Tools:{% for tool in tools %}
{{ tool | tojson }}{% endfor %}<|im_end|>
{% endif %}{% for message in messages %}
{%- if message.role in ['user', 'system'] -%}
<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% elif message.role == 'assistant' -%}
<|im_start|>assistant
{% if loop.index0 > last.user and message.reasoning_content %}<think>
{{ message.reasoning_content }}
</think>

{% endif %}{{ message.content }}{% for call in message.tool_calls or [] %}{{ '\n' }}<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{% endfor %}<|im_end|>
{% elif message.role == 'tool' -%}
<|im_start|>tool
{{ message.content }}<|im_end|>
{% endif %}{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking is defined and not enable_thinking %}<think>

</think>

{% endif %}{% endif %}""",
    end="<|im_end|>",
    special=["<|im_start|>", "<|im_end|>"],
    markup=[*CALLS, "<think>", "</think>"],
)
