"""Renders chat templates with transformers, for tests/chat.rs.

Versions: Python 3.11, transformers 5.24.0, jinja2 3.1.6. Writes chat.json beside this file:

    python tests/parity/make_chat.py

The templates are written here in the style of published ones, not copied from any model. Each is
rendered by transformers' own `render_jinja_template` for every conversation, with and without the
generation prompt. `strftime_now` is fixed at NOW (UTC).

    {"now": seconds, "versions": …, "conversations": {name: [[role, content], …]},
     "templates": [{"name", "source", "special": {…},
                    "cases": [[conversation, add_generation_prompt, {"text": …}
                               | {"raised": message} | {"error": class}], …]}]}
"""

import datetime
import json
import pathlib

import jinja2
import transformers
from transformers.utils import chat_template_utils

NOW = 1_721_952_000  # 2024-07-26 00:00:00 UTC


class FixedTime(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc).replace(tzinfo=None)


chat_template_utils.datetime = FixedTime

CONVERSATIONS = {
    "user": [["user", "What is the tallest mountain?"]],
    "system": [["system", "You are terse."], ["user", "Hi"]],
    "turns": [
        ["system", "Be kind."],
        ["user", "One"],
        ["assistant", "Two"],
        ["user", "Three"],
        ["assistant", "Four"],
        ["user", "Five"],
    ],
    "answered": [["user", "2+2?"], ["assistant", "4"]],
    "empty content": [["system", ""], ["user", ""], ["assistant", ""]],
    "unicode": [["user", "Grüße, 世界! 👩‍🚀 e\u0301 \u00a0\u2028 ﬁ"], ["assistant", "مرحبا\u200b"]],
    "spaces": [["system", "  lead\n\n"], ["user", "\t trail \r\n "], ["assistant", "\n\n x \x1c\n"]],
    "braces": [
        ["user", "{{ bos_token }} {% if x %} {# c #} \\n \\\\ \"q\" 'q' <b>&amp;</b> %} }}"],
        ["assistant", "a\\b{0}%s"],
    ],
    "thinking": [
        ["user", "Why?"],
        ["assistant", "<think>\nfirst\n</think>\n\nBecause."],
        ["user", "And?"],
        ["assistant", "<think>second</think>So. <think>x</think> y"],
        ["user", "<tool_response>not a question</tool_response>"],
    ],
    "order": [["user", "a"], ["user", "b"]],
    "assistant first": [["assistant", "Hello"], ["user", "Hi"]],
    "late system": [["user", "a"], ["system", "b"], ["user", "c"]],
    "odd role": [["critic", "No."], ["user", "Yes."]],
    "flag": [["system", "Short answers. /no_think"], ["user", "Go /think now"]],
    "none": [],
}

CHATML_TOOLS = r"""{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- else %}
        {{- 'You are a helpful model.' }}
    {%- endif %}
    {{- "\n\n# Tools\n\nYou may call these functions:\n<tools>" }}
    {%- for tool in tools %}
        {{- "\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\n</tools><|im_end|>\n" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}
    {%- else %}
        {{- '<|im_start|>system\nYou are a helpful model.<|im_end|>\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- '\n<tool_call>\n{"name": "' + tool_call.name + '", "arguments": ' }}
            {{- tool_call.arguments | tojson }}
            {{- '}\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- elif message.role == "tool" %}
        {{- '\n<tool_response>\n' + message.content + '\n</tool_response>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
"""

CHATML = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"

LLAMA2 = "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"

LLAMA3 = r"""{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}

{#- The system message comes out of the list, so that it can stand in its place. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}

{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\n" }}
{%- endif %}
{{- "Knowledge ends: December 2023\n" }}
{{- "Today: " + date_string + "\n\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("One call at a time!") }}
        {%- endif %}
        {{- message.tool_calls[0].function | tojson(indent=4) }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
"""

MISTRAL = r"""{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}

{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if (message["role"] == "user" or (message["role"] == "assistant" and not message.tool_calls)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("After the optional system message, roles must alternate; got " + message["role"] + " at " ~ ns.index) }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}

{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\n\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {%- if message.tool_calls is defined and message.tool_calls is not none %}
            {{- raise_exception("calls") }}
        {%- else %}
            {{- " " + message["content"]|trim + eos_token}}
        {%- endif %}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported, with an initial optional system message! (" ~ user_messages | length ~ ")") }}
    {%- endif %}
{%- endfor %}
"""

GEMMA = "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"

GEMMA3 = r"""{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set first_user_prefix = messages[0]['content'] + '\n\n' -%}
    {%- else -%}
        {%- set first_user_prefix = messages[0]['content'][0]['text'] + '\n\n' -%}
    {%- endif -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '\n' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {{ item['text'] | trim }}
        {%- endfor -%}
    {%- else -%}
        {{ raise_exception("Invalid content type") }}
    {%- endif -%}
    {{ '<end_of_turn>
' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model
'}}
{%- endif -%}
"""

PHI3 = "{% for message in messages %}{% if message['role'] == 'system' and message['content'] %}{{'<|system|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'user' %}{{'<|user|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'assistant' %}{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"

ZEPHYR = """{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>
' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>
' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>
'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}
"""

ALPACA = """{% if messages and messages[0].role == 'system' %}{{ messages[0].content }}{% else %}Below is an instruction. Write a response.{% endif %}

{% for message in messages if message.role != 'system' %}
  {%+ if message.role == 'user' %}
### Instruction:
{{ message.content.rstrip() }}
  {% else %}
### Response:
{{ message.content.replace('\\n', ' ').title() }}{{ eos_token }}
  {% endif %}
{% else %}
(nothing)
{% endfor %}
{% if add_generation_prompt %}
### Response:
{% endif %}

"""

DEEPSEEK = r"""{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{% set ns = namespace(is_first=false, is_tool=false, is_output_first=true, system_prompt='', is_first_sp=true) %}{%- for message in messages %}{%- if message['role'] == 'system' %}{%- if ns.is_first_sp %}{% set ns.system_prompt = ns.system_prompt + message['content'] %}{% set ns.is_first_sp = false %}{%- else %}{% set ns.system_prompt = ns.system_prompt + '\n\n' + message['content'] %}{%- endif %}{%- endif %}{%- endfor %}{{ bos_token }}{{ ns.system_prompt }}{%- for message in messages %}{%- if message['role'] == 'user' %}{%- set ns.is_tool = false -%}{{'<｜User｜>' + message['content']}}{%- endif %}{%- if message['role'] == 'assistant' and 'tool_calls' in message %}{%- set ns.is_tool = false -%}{{ message['tool_calls'] | tojson }}{%- endif %}{%- if message['role'] == 'assistant' and 'tool_calls' not in message %}{%- if ns.is_tool %}{{'<｜tool▁outputs▁end｜>' + message['content'] + '<｜end▁of▁sentence｜>'}}{%- set ns.is_tool = false -%}{%- else %}{% set content = message['content'] %}{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}{{'<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>'}}{%- endif %}{%- endif %}{%- endfor -%}{% if ns.is_tool %}{{'<｜tool▁outputs▁end｜>'}}{% endif %}{% if add_generation_prompt and not ns.is_tool %}{{'<｜Assistant｜><think>\n'}}{% endif %}"""

QWEN3 = r"""{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- else %}
            {%- if '</think>' in content %}
                {%- set reasoning_content = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
                {%- set content = content.split('</think>')[-1].lstrip('\n') %}
            {%- endif %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index %}
            {%- if loop.last or (not loop.last and reasoning_content) %}
                {{- '<|im_start|>' + message.role + '\n<think>\n' + reasoning_content.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}
            {%- else %}
                {{- '<|im_start|>' + message.role + '\n' + content }}
            {%- endif %}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %}"""

SMOLLM3 = r"""{# ───── defaults ───── #}
{%- if enable_thinking is not defined -%}
{%- set enable_thinking = true -%}
{%- endif -%}

{# ───── mode ───── #}
{%- if enable_thinking -%}
  {%- set reasoning_mode = "/think" -%}
{%- else -%}
  {%- set reasoning_mode = "/no_think" -%}
{%- endif -%}

{# ───── header ───── #}
{{- "<|im_start|>system\n" -}}
{%- if messages and messages[0].role == "system" -%}
  {%- set system_message = messages[0].content -%}
  {%- if "/no_think" in system_message -%}
    {%- set reasoning_mode = "/no_think" -%}
  {%- elif "/think" in system_message -%}
    {%- set reasoning_mode = "/think" -%}
  {%- endif -%}
  {%- set custom_instructions = system_message.replace("/no_think", "").replace("/think", "").rstrip() -%}
{%- endif -%}
{{- "## Metadata\n\n" -}}
{%- set today = strftime_now("%d %B %Y") -%}
{{- "Today Date: " ~ today ~ "\n" -}}
{{- "Reasoning Mode: " + reasoning_mode + "\n\n" -}}
{{- "## Instructions\n\n" -}}
{%- if custom_instructions -%}
  {{- custom_instructions + "\n\n" -}}
{%- else -%}
  {{- "You are a helpful model.\n\n" -}}
{%- endif -%}
{{- "<|im_end|>\n" -}}
{# ───── main loop ───── #}
{%- for message in messages -%}
    {%- set content = message.content if message.content is string else "" -%}
    {%- if message.role == "user" -%}
        {{ "<|im_start|>" + message.role + "\n"  + content + "<|im_end|>\n" }}
    {%- elif message.role == "assistant" -%}
        {% generation %}
        {%- if reasoning_mode == "/think" -%}
            {{ "<|im_start|>assistant\n" + content.lstrip("\n") + "<|im_end|>\n" }}
        {%- else -%}
            {{ "<|im_start|>assistant\n" + "<think>\n\n</think>\n" + content.rsplit("</think>", 1)[-1].lstrip("\n") + "<|im_end|>\n" }}
        {%- endif -%}
        {% endgeneration %}
    {%- elif message.role == "tool" -%}
    {{ "<|im_start|>" + "user\n"  + content + "<|im_end|>\n" }}
    {%- endif -%}
{%- endfor -%}
{# ───── generation prompt ───── #}
{%- if add_generation_prompt -%}
    {%- if reasoning_mode == "/think" -%}
        {{ "<|im_start|>assistant\n" }}
    {%- else -%}
        {{ "<|im_start|>assistant\n" + "<think>\n\n</think>\n"  }}
    {%- endif -%}
{%- endif -%}
"""

# No model's: the corners of the language and of Python's text.
CORNERS = r"""{%- macro turn(m, open='<', close='>') -%}
{{ open ~ m.role.upper() ~ close }}{{ caller() if caller is defined else '' }}
{%- endmacro -%}
{%- set parts = [] -%}
{%- for key, value in (messages[0] if messages else {}).items() %}{{ key }}={{ value|length }};{% endfor %}
{% for m in messages %}
    {%- if m.content == '' %}{% continue %}{% endif %}
    {%- if loop.index > 4 %}[{{ loop.length }}]{% break %}{% endif %}
    {{- turn(m) }}{{ turn(m, close=']', open='[') }}
    {{- m|tojson }}{{ m.content|tojson(indent=2) }}{{ [m, 1, 2.0, 1e16, none, true]|tojson(separators=(',', ':')) }}
    {{- {'b': [], 'a': {}, 'c': [1, [2]]}|tojson(indent=1) }}{{ {'b': 1, 'a': 'é'}|tojson(sort_keys=true, ensure_ascii=true) }}
    {{- m.content.split()|join('/') }}{{ m.content.split(' ', 1)|length }}{{ m.content.rsplit(None, 1)|length }}
    {{- m.content.splitlines()|length }}{{ m.content.partition('\n')[0] }}
    {{- m.content.strip(' \n') ~ '|' ~ m.content.lstrip() ~ '|' ~ m.content.rstrip('.') }}
    {{- m.content.find('a') }}{{ m.content.count('e') }}{{ m.content.removeprefix('W').removesuffix('?') }}
    {{- m.content[1:3] }}{{ m.content[::-1] }}{{ m.content[-2:] }}{{ m.content | length }}
    {{- m.content.startswith(('W', 'H')) }}{{ m.content.capitalize() }}{{ m.content is sequence }}{{ m is mapping }}
    {{- m.get('name', 'nobody') }}{{ m.get('x') is none }}{{ 'role' in m }}{{ 'x' not in m.content }}
    {{- loop.previtem.role if loop.previtem is defined else '-' }}{{ loop.nextitem is defined }}{{ loop.revindex0 }}
{% endfor %}
{{- none }}{{ true }}{{ 7 // 2 }}{{ 7 / 2 }}{{ -7 % 3 }}{{ 2 ** 10 }}{{ 'ab' * 3 }}{{ 1.0 }}{{ undefined_thing }}{{ [none, false, 'q'] }}
{{ (messages + [{'role': 'x', 'content': 'y'}])[-1].role }}{{ messages|map(attribute='role')|join(',') }}{{ messages|map(attribute='role')|unique|list|length }}
{{ messages|selectattr('role', 'equalto', 'user')|list|length }}{{ (messages|last).role if messages }}{{ '%s-%d' % ('a', 3) if false else '' }}{{ "a" "b" }}
{% set block %}in {{ bos_token }}{% endset %}{{ block|upper }}{{ unknown_tokens|default('dflt') }}{{ eos_token|e if false }}{{ '<&>' }}
{% raw %}{{ raw }} {% generation %}{% endraw %}
{% filter upper %}x{% endfilter %}{% call turn({'role': 'c', 'content': ''}) %}called{% endcall %}{{ dict(a=1).a }}{{ range(3)|list }}{{ range(5, 0, -2)|sum }}
  {% if true %}
    indented
  {% endif %}
{%+ if true %} kept{%- endif %}
"""

# A template that is wrong at run time: an attribute of what is not there.
BROKEN = "{% for m in messages %}{{ m.missing.deeper }}{% endfor %}"
CONCAT = "{{ bos_token }}{{ 'a' + 1 }}"

S = {"bos_token": "<s>", "eos_token": "</s>"}
TEMPLATES = [
    ("chatml-tools", CHATML_TOOLS, {"eos_token": "<|im_end|>"}),
    ("chatml", CHATML, {}),
    ("llama-2", LLAMA2, S),
    ("llama-3", LLAMA3, {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}),
    ("mistral", MISTRAL, S),
    ("gemma", GEMMA, {"bos_token": "<bos>", "eos_token": "<eos>"}),
    ("gemma-3", GEMMA3, {"bos_token": "<bos>", "eos_token": "<eos>"}),
    ("phi-3", PHI3, {"bos_token": "<s>", "eos_token": "<|endoftext|>"}),
    ("zephyr", ZEPHYR, S),
    ("alpaca", ALPACA, S),
    ("deepseek", DEEPSEEK, {"bos_token": "<｜begin▁of▁sentence｜>"}),
    ("qwen-3", QWEN3, {"eos_token": "<|im_end|>"}),
    ("smollm-3", SMOLLM3, {"eos_token": "<|im_end|>"}),
    ("corners", CORNERS, S),
    ("broken", BROKEN, S),
    ("concat", CONCAT, {}),
]


def render(source, special, conversation, prompt):
    messages = [{"role": role, "content": content} for role, content in conversation]
    try:
        texts, _ = chat_template_utils.render_jinja_template(
            conversations=[messages], chat_template=source, add_generation_prompt=prompt, **special
        )
        return {"text": texts[0]}
    except jinja2.exceptions.TemplateError as error:
        if type(error) is jinja2.exceptions.TemplateError:
            return {"raised": error.message}
        return {"error": type(error).__name__}
    except (TypeError, ValueError) as error:
        return {"error": type(error).__name__}


def main():
    templates = []
    for name, source, special in TEMPLATES:
        cases = [
            [key, prompt, render(source, special, conversation, prompt)]
            for key, conversation in CONVERSATIONS.items()
            for prompt in ([True, False] if name != "corners" else [True])
        ]
        templates.append({"name": name, "source": source, "special": special, "cases": cases})
    result = {
        "now": NOW,
        "versions": {"transformers": transformers.__version__, "jinja2": jinja2.__version__},
        "conversations": CONVERSATIONS,
        "templates": templates,
    }
    path = pathlib.Path(__file__).with_name("chat.json")
    path.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(path, path.stat().st_size, "bytes", sum(len(t["cases"]) for t in templates), "cases")
    for template in templates:
        kinds = [next(iter(case[2])) for case in template["cases"]]
        print(template["name"], {kind: kinds.count(kind) for kind in set(kinds)})


if __name__ == "__main__":
    main()
