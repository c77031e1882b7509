"""Renders the templates of this folder, and small ones for single constructs, with Hugging
Face transformers' own Jinja2 environment. Writes vectors.json, which template_test.go reads.
Run with transformers 4.57.6 installed: python make.py"""
import datetime, json, os
from transformers.utils import chat_template_utils as ctu

here = os.path.dirname(os.path.abspath(__file__))
call = {"role": "assistant", "content": "", "tool_calls": [
    {"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Zürich \"x\" <b>", "days": 3, "f": 1.5, "ok": True, "no": None, "l": [1, "a"]}}}]}
chats = [
    [{"role": "user", "content": "Hi"}],
    [{"role": "system", "content": " Be brief.\n"}, {"role": "user", "content": "  What is {{ 1 + 1 }} & <b>? \n\n"}],
    [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b\n"}, {"role": "user", "content": "日本語 🙂 'q' \"d\" \\n"}],
    [{"role": "system", "content": ""}, {"role": "user", "content": ""}],
    [{"role": "user", "content": "weather?"}, call, {"role": "tool", "content": "sunny"}, {"role": "tool", "content": "dry \"ü\""}, {"role": "user", "content": "thanks"}],
    [{"role": "user", "content": "{% raw %}{# no #}"}, {"role": "system", "content": "late"}, {"role": "user", "content": "\u00a0\u2003x\x1c"}],
]
constructs = [
    "{{ messages[-1].content }}|{{ messages[-1]['role'] }}|{{ messages[99] is defined }}",
    "{% for m in messages %}{{ loop.index }}/{{ loop.index0 }}/{{ loop.revindex }}/{{ loop.first }}/{{ loop.last }}/{{ loop.length }};{% endfor %}",
    "{% for m in messages if m.role == 'user' %}{{ m.content }}{% if not loop.last %}, {% endif %}{% else %}none{% endfor %}",
    "{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}{{ m.role }}{% if loop.index > 1 %}{% break %}{% endif %}{% endfor %}",
    "{% set ns = namespace(n=0, s='') %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% set ns.s = ns.s ~ ns.n ~ ',' %}{% endfor %}{{ ns.n }} {{ ns.s }}",
    "{%- macro turn(role, text='-') %}[{{ role }}: {{ text }}]{% endmacro %}{{ turn('a') }}{{ turn('b', text='c') }}",
    "line 1\n  {% if true %}\nline 2\n  {% endif %}\n\nline 3\n",
    "  {%- set x = 3 %}\n{{ x }}\n{#- note -#}\n  y  \n{% raw %}{{ not this }}{% endraw %}\n",
    "{{ 'a\\nb\\tc\\\\d\\'e\"f' }}|{{ \"\\u00e9\\x41\\q\" }}|{{ 'x' 'y' }}|{{ 'it\\'s' }}",
    "{{ 'abc'[0] }}{{ 'abc'[-1] }}{{ 'abcdef'[1:4] }}{{ 'abc'[::-1] }}{{ [1,2,3][1:] }}{{ [1,2,3]|length }}",
    "{{ ' x '.strip() }}|{{ 'a,b,c'.split(',') | join('-') }}|{{ 'abc'.startswith('ab') }}|{{ 'Abc'.upper() }}|{{ 'a b'.title() }}|{{ 'xaxbx'.replace('x', '') }}|{{ '  l'.lstrip() }}|{{ 'r\\n'.rstrip('\\n') }}|{{ 'a</think>b'.split('</think>')[-1] }}",
    "{{ 'a' in 'cat' }}{{ 'x' not in 'cat' }}{{ 2 in [1, 2] }}{{ 'role' in messages[0] }}{{ 'tool_calls' in messages[0] }}",
    "{{ none is none }}{{ x is defined }}{{ 'a' is string }}{{ messages is iterable }}{{ messages[0] is mapping }}{{ 3 is number }}{{ messages is sequence }}{{ true is true }}{{ 4 is divisibleby 2 }}{{ 4 is even }}",
    "{{ 7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 ** 5 }} {{ 1 + 2 * 3 }} {{ 'ab' * 2 }} {{ 1.0 }} {{ 10 / 5 }}",
    "{{ messages[0] | tojson }}\n{{ [1, 2.5, true, none, 'é<\"'] | tojson }}\n{{ {'a': {'b': [1, {}]}, 'c': []} | tojson(indent=2) }}",
    "{{ 'x' if messages else 'y' }}{{ 'only' if false }}{{ x or 'default' }}{{ x | default('d') }}{{ '' | default('e', true) }}",
    "{{ messages | map(attribute='role') | join(',') }}|{{ messages | selectattr('role', 'equalto', 'user') | list | length }}|{{ messages | rejectattr('role', 'equalto', 'user') | map(attribute='content') | list | length }}",
    "{{ range(3) | list }}{% for i in range(5, 0, -2) %}{{ i }}{% endfor %}",
    "{% set text %}a {{ messages[0].role }} b{% endset %}[{{ text }}]",
    "{% if 1 == 1 and not (2 < 1 or 3 >= 4) and 'a' != 'b' %}yes{% elif true %}no{% else %}never{% endif %}",
    "{{ messages[0].get('role', 'z') }}{{ messages[0].get('nope', 'z') }}{% for k, v in messages[0].items() %}{{ k }}={{ v | length }};{% endfor %}",
    "{{ bos_token }}{{ eos_token }}{{ nothing }}{{ add_generation_prompt }}{{ tools is none }}",
    "{{ 'a\\nb\\n\\nc' | indent(2) }}|{{ 'HeLLo' | lower }}|{{ 'hello wORLD' | capitalize }}|{{ ['b','a'] | sort | first }}|{{ 'abc' | reverse }}|{{ [3,1] | max }}",
    "{% generation %}kept{% endgeneration %}|{{ 'a' ~ 1 ~ true }}",
    "{% for c in 'né' %}<{{ c }}>{% endfor %}{{ ('a', 'b')[1] }}{{ {'k': 'v'}.k }}{{ {'k': 'v'}['k'] }}",
    "{%- for m in messages -%}\n  {{ m.role }} \n{%- endfor -%}\n  end",
    "{{ messages[0].content | trim | upper | replace('H', 'J') }}{{ messages[0].content | length }}",
    "{% if messages[0].role not in ['user', 'system'] %}{{ raise_exception('roles!') }}{% endif %}ok",
    "{% if messages[0].content is defined and messages[0].content is not none %}c{% endif %}{{ 'x' if messages[0].role == 'user' and messages|length > 1 else 'z' }}",
]
special = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}

class fixed(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2025, 3, 7, 8, 9, 10)
ctu.datetime = fixed

def render(source, messages, prompt):
    template = ctu._compile_jinja_template(source)
    try:
        return {"rendered": template.render(messages=messages, tools=None, documents=None, add_generation_prompt=prompt, **special)}
    except Exception as e:
        return {"error": str(e)}

cases = []
for name in ["llama31.jinja", "llama32.jinja", "qwen25.jinja"]:
    source = open(os.path.join(here, name), encoding="utf-8").read()
    for messages in chats:
        for prompt in [True, False]:
            cases.append({"file": name, "messages": messages, "prompt": prompt, **render(source, messages, prompt)})
for source in constructs:
    for messages in chats[:5:2] + [[{"role": "tool", "content": "?"}]]:
        cases.append({"source": source, "messages": messages, "prompt": True, **render(source, messages, True)})
with open(os.path.join(here, "vectors.json"), "w", encoding="utf-8") as f:
    json.dump(cases, f, ensure_ascii=False, indent=0)
print(len(cases), sum("error" in c for c in cases))
