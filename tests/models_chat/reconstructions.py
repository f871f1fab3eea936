"""Chat templates of families whose own cannot be fetched here: the essential shape of each, in our own words, from what
its makers document. The real ones say more around it; what a codec has to know is the same.
"""

import re

MISTRAL_3 = """{%- set first = messages[0].content if messages[0].role == 'system' else '' -%}
{%- set spoken = messages[1:] if first else messages -%}
{%- set last = namespace(user=0) -%}
{%- for m in spoken %}{% if m.role == 'user' %}{% set last.user = loop.index0 %}{% endif %}{% endfor -%}
{{ bos_token }}
{%- for m in spoken -%}
{%- if m.role == 'user' -%}
{%- if tools and loop.index0 == last.user %}[AVAILABLE_TOOLS] {{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif -%}
[INST] {{ first ~ '\n\n' ~ m.content if first and loop.last else m.content }}[/INST]
{%- elif m.tool_calls -%}
[TOOL_CALLS] [
{%- for call in m.tool_calls -%}
{%- if call.id | length != 9 %}{{ raise_exception('a call has an id of nine letters') }}{% endif -%}
{{ ', ' if not loop.first }}{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson -}}
, "id": "{{ call.id }}"}
{%- endfor -%}
]{{ eos_token }}
{%- elif m.role == 'assistant' %} {{ m.content | trim }}{{ eos_token }}
{%- elif m.role == 'tool' -%}
{%- if m.tool_call_id | length != 9 %}{{ raise_exception('a result names the nine letters of its call') }}{% endif -%}
[TOOL_RESULTS] {"content": {{ m.content | tojson }}, "call_id": "{{ m.tool_call_id }}"}[/TOOL_RESULTS]
{%- endif -%}
{%- endfor -%}"""

MISTRAL_11 = """{{ bos_token }}
{%- for m in messages -%}
{%- if m.role == 'system' %}[SYSTEM_PROMPT]{{ m.content }}[/SYSTEM_PROMPT]{% endif -%}
{%- if loop.first and tools %}[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif -%}
{%- if m.role == 'user' %}[INST]{{ m.content }}[/INST]
{%- elif m.role == 'assistant' -%}
{{ m.content }}
{%- for call in m.tool_calls or [] -%}
[TOOL_CALLS]{{ call.function.name }}[ARGS]{{ call.function.arguments | tojson }}
{%- endfor -%}
{{ eos_token }}
{%- elif m.role == 'tool' %}[TOOL_RESULTS]{{ m.content }}[/TOOL_RESULTS]
{%- endif -%}
{%- endfor -%}"""

KIMI_K2 = """{%- if tools %}<|im_system|>tool_declare<|im_middle|>{{ tools | tojson }}<|im_end|>{% endif -%}
{%- for m in messages -%}
{%- if m.role == 'assistant' -%}
<|im_assistant|>assistant<|im_middle|>{{ m.content or '' }}
{%- if m.tool_calls -%}
<|tool_calls_section_begin|>
{%- for call in m.tool_calls -%}
<|tool_call_begin|>{{ call.id }}<|tool_call_argument_begin|>{{ call.function.arguments | tojson }}<|tool_call_end|>
{%- endfor -%}
<|tool_calls_section_end|>
{%- endif -%}
<|im_end|>
{%- elif m.role == 'tool' -%}
<|im_system|>{{ m.name or 'tool' }}<|im_middle|>## Return of {{ m.tool_call_id }}
{{ m.content }}<|im_end|>
{%- else -%}
<|im_{{ m.role }}|>{{ m.role }}<|im_middle|>{{ m.content }}<|im_end|>
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}<|im_assistant|>assistant<|im_middle|>{% endif -%}"""

GRANITE_3 = """{%- if messages[0].role != 'system' -%}
<|start_of_role|>system<|end_of_role|>You are a helpful assistant.<|end_of_text|>
{% endif -%}
{%- for m in messages -%}
{%- if loop.first and tools and m.role != 'system' -%}
<|start_of_role|>tools<|end_of_role|>{{ tools | tojson }}<|end_of_text|>
{% endif -%}
{%- if m.role == 'tool' -%}
<|start_of_role|>tool_response<|end_of_role|>{{ m.content }}<|end_of_text|>
{% elif m.tool_calls -%}
<|start_of_role|>assistant<|end_of_role|>{{ m.content }}<|tool_call|>[
{%- for call in m.tool_calls -%}
{{ ', ' if not loop.first }}{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
{%- endfor -%}
]<|end_of_text|>
{% else -%}
<|start_of_role|>{{ m.role }}<|end_of_role|>{{ m.content }}<|end_of_text|>
{% endif -%}
{%- if loop.first and tools and m.role == 'system' -%}
<|start_of_role|>tools<|end_of_role|>{{ tools | tojson }}<|end_of_text|>
{% endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}<|start_of_role|>assistant<|end_of_role|>{% endif -%}"""

# How a ChatML template ends, from the text of a tool's result on.
_RESULT_TO_END = """<tool_response>
{{ m.content }}
</tool_response>
{{ '<|im_end|>\n' if after != 'tool' }}
{%- else -%}
<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif -%}"""

_TAGGED_CALLS = """{%- for call in m.tool_calls or [] -%}
{{ '\n' if m.content or not loop.first }}<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor -%}"""

GRANITE_4 = (
    """{%- set first = messages[0].content if messages[0].role == 'system' else '' -%}
{%- if tools or first -%}
<|start_of_role|>system<|end_of_role|>{{ first }}
{{ '\n\n' if first and tools }}
{%- if tools %}Answer with calls as <tool_call> JSON </tool_call>. <tools>{{ tools | tojson }}</tools>{% endif -%}
<|end_of_text|>
{% endif -%}
{%- for m in (messages[1:] if messages[0].role == 'system' else messages) -%}
{%- set before = loop.previtem.role if not loop.first else '' -%}
{%- set after = loop.nextitem.role if not loop.last else '' -%}
{%- if m.role == 'assistant' -%}
<|start_of_role|>assistant<|end_of_role|>{{ m.content }}"""
    + _TAGGED_CALLS
    + """<|end_of_text|>
{% elif m.role == 'tool' -%}
{{ '<|start_of_role|>user<|end_of_role|>' if before != 'tool' }}
<tool_response>
{{ m.content }}
</tool_response>
{%- if after != 'tool' %}<|end_of_text|>
{% endif -%}
{%- else -%}
<|start_of_role|>{{ m.role }}<|end_of_role|>{{ m.content }}<|end_of_text|>
{% endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}<|start_of_role|>assistant<|end_of_role|>{% endif -%}"""
)

# Calls are left to the model: only what it is told of them names their form.
SMOLLM_3 = """{%- set thinks = enable_thinking is not defined or enable_thinking -%}
<|im_start|>system
Reasoning Mode: {{ '/think' if thinks else '/no_think' }}
{{ messages[0].content if messages[0].role == 'system' }}
{%- if tools %}
For each call write <tool_call> {"name": ..., "arguments": ...} </tool_call>. <tools>{% for tool in tools %}
{{ tool | tojson }}{% endfor %}</tools>{% endif %}<|im_end|>
{% for m in messages -%}
{%- if m.role == 'user' -%}
<|im_start|>user
{{ m.content }}<|im_end|>
{% elif m.role == 'assistant' -%}
<|im_start|>assistant
{{ '' if thinks else '<think>\n\n</think>\n' }}{{ m.content }}<|im_end|>
{% elif m.role == 'tool' -%}
<|im_start|>user
{{ m.content }}<|im_end|>
{% endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}<|im_start|>assistant
{{ '' if thinks else '<think>\n\n</think>\n' }}{% endif -%}"""

PHI_4 = """{%- for m in messages -%}
{%- if m.role in ['system', 'user', 'assistant'] -%}
<|im_start|>{{ m.role }}<|im_sep|>{{ m.content }}<|im_end|>
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}<|im_start|>assistant<|im_sep|>{% endif -%}"""

PHI_4_MINI = """{%- for m in messages -%}
{%- if m.role == 'system' and m.tools -%}
<|system|>{{ m.content }}<|tool|>{{ m.tools }}<|/tool|><|end|>
{%- else -%}
<|{{ m.role }}|>{{ m.content }}<|end|>
{%- endif -%}
{%- endfor -%}
{{- '<|assistant|>' if add_generation_prompt else eos_token -}}"""

FUNCTION_GEMMA = """{%- macro value(given) -%}
{%- if given is none %}null
{%- elif given is string %}<escape>{{ given }}<escape>
{%- elif given is boolean %}{{ 'true' if given else 'false' }}
{%- elif given is mapping -%}
{ {%- for k, v in given | dictsort %}{{ ',' if not loop.first }}{{ k }}:{{ value(v) }}{% endfor -%} }
{%- elif given is sequence %}[{% for v in given %}{{ ',' if not loop.first }}{{ value(v) }}{% endfor %}]
{%- else %}{{ given }}
{%- endif -%}
{%- endmacro -%}
{{ bos_token }}
{%- set first = messages[0].content if messages[0].role == 'system' else '' -%}
{%- if first or tools -%}
<start_of_turn>developer
{{ first }}
{%- for tool in tools or [] -%}
<start_function_declaration>declaration:{{ tool.function.name }}
{{- value(tool.function.parameters) }}<end_function_declaration>
{%- endfor -%}
<end_of_turn>
{% endif -%}
{%- for m in (messages[1:] if messages[0].role == 'system' else messages) -%}
{%- set before = loop.previtem.role if not loop.first else '' -%}
{%- if m.role == 'tool' -%}
<start_function_response>response:{{ m.name }}{value:{{ value(m.content) }}}<end_function_response>
{%- else -%}
{%- if before != 'tool' or m.role != 'assistant' -%}
<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}
{% endif -%}
{{ m.content | trim }}
{%- for call in m.tool_calls or [] -%}
<start_function_call>call:{{ call.function.name }}{{ value(call.function.arguments) }}<end_function_call>
{%- endfor -%}
{%- if not m.tool_calls %}<end_of_turn>
{% endif -%}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt and messages[-1].role != 'tool' %}<start_of_turn>model
{% endif -%}"""

QWEN_3_CODER = (
    """{%- if tools -%}
<|im_start|>system
{{ messages[0].content if messages[0].role == 'system' else 'You help.' }}

# Tools
{% for tool in tools %}<function><name>{{ tool.function.name }}</name>{{ tool.function.parameters | tojson }}</function>
{% endfor %}<|im_end|>
{% elif messages[0].role == 'system' -%}
<|im_start|>system
{{ messages[0].content }}<|im_end|>
{% endif -%}
{%- for m in (messages[1:] if messages[0].role == 'system' else messages) -%}
{%- set before = loop.previtem.role if not loop.first else '' -%}
{%- set after = loop.nextitem.role if not loop.last else '' -%}
{%- if m.role == 'assistant' -%}
<|im_start|>assistant
{{ m.content }}
{%- for call in m.tool_calls or [] -%}
{{ '\n' if m.content or not loop.first }}<tool_call>
<function={{ call.function.name }}>
{% for key, given in call.function.arguments | items -%}
<parameter={{ key }}>
{{ given if given is string else given | tojson }}
</parameter>
{% endfor -%}
</function>
</tool_call>
{%- endfor -%}
<|im_end|>
{% elif m.role == 'tool' -%}
{{ '<|im_start|>user\n' if before != 'tool' }}"""
    + _RESULT_TO_END
)

_DEEPSEEK = """{%- set after = namespace(results=false) -%}
{{ bos_token }}{{ messages[0].content if messages[0].role == 'system' }}
{%- for m in messages -%}
{%- if m.role == 'user' -%}
{%- set after.results = false -%}
[User]{{ m.content }}
{%- elif m.role == 'assistant' -%}
{{ '' if after.results else '[Assistant]</think>' }}{{ m.content }}
{%- set after.results = false -%}
{%- if m.tool_calls -%}
[tool calls begin]
{%- for call in m.tool_calls -%}
[tool call begin]{{ call.function.name }}[tool sep]{{ call.function.arguments | tojson }}[tool call end]
{%- endfor -%}
[tool calls end]
{%- endif -%}
{{ eos_token }}
{%- elif m.role == 'tool' -%}
{%- set after.results = true -%}
[tool output begin]{{ m.content }}[tool output end]
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt and not after.results -%}
[Assistant]{{ '<think>' if thinking is defined and thinking else '</think>' }}
{%- endif -%}"""


def deepseek_token(words: str) -> str:
    """DeepSeek's control tokens have bars and low lines that are not ASCII."""
    return f"<\uff5c{words.replace(' ', chr(0x2581))}\uff5c>"


DEEPSEEK_31 = re.sub(
    r"\[((?:tool )?(?:User|Assistant|calls? \w+|sep|output \w+))\]", lambda found: deepseek_token(found[1]), _DEEPSEEK
)

HERMES = (
    """{%- if tools -%}
<|im_start|>system
You call functions. <tools>{% for tool in tools %}{{ tool | tojson }}
{% endfor %}</tools> For each call write JSON within <tool_call></tool_call>.<|im_end|>
{% endif -%}
{%- for m in messages -%}
{%- set before = loop.previtem.role if not loop.first else '' -%}
{%- set after = loop.nextitem.role if not loop.last else '' -%}
{%- if m.role == 'assistant' -%}
<|im_start|>assistant
{{ m.content }}"""
    + _TAGGED_CALLS
    + """<|im_end|>
{% elif m.role == 'tool' -%}
{{ '<|im_start|>tool\n' if before != 'tool' }}"""
    + _RESULT_TO_END
)
