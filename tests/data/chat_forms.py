"""Chat templates in the forms of published families, and conversations.

Each form is written here as its family writes conversations, with
`BEGIN` and `END` around what the assistant says, which become Jinja's
`{% generation %}` blocks or nothing.
"""

import numpy as np

BEGIN, END = '{#begin#}', '{#end#}'
TOKENS = {'bos_token': '<s>', 'eos_token': '</s>', 'pad_token': '<pad>'}
# Tokens that the forms use, besides the named ones.
SPECIALS = (
  *TOKENS.values(),
  *('<|im_start|>', '<|im_end|>', '<|start_header_id|>', '<|end_header_id|>'),
  *('<|eot_id|>', '<start_of_turn>', '<end_of_turn>', '[INST]', '[/INST]'),
  *('<image>', '<end_of_utterance>'),
  *('<|vision_start|>', '<|image_pad|>', '<|vision_end|>', '<|video_pad|>'),
)

CHATML = """
{%- if messages[0].role != 'system' -%}
  {{- '<|im_start|>system\nYou help.<|im_end|>\n' -}}
{%- endif -%}
{%- for message in messages -%}
  {{- '<|im_start|>' + message.role + '\n' -}}
  {%- if message.role == 'assistant' -%}
    {#begin#}{{- message.content + '<|im_end|>' -}}{#end#}
    {{- '\n' -}}
  {%- else -%}
    {{- message.content + '<|im_end|>\n' -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '<|im_start|>assistant\n' -}}
{%- endif -%}
"""

# Thoughts of answers to the last question alone; an empty one is not said.
QWEN3 = """
{%- for message in messages -%}
  {{- '<|im_start|>' + message.role + '\n' -}}
  {%- if message.role != 'assistant' -%}
    {{- message.content + '<|im_end|>\n' -}}
    {%- continue -%}
  {%- endif -%}
  {%- set content = message.content.split('</think>')[-1].lstrip('\n') -%}
  {%- set thought = message.content.split('</think>')[0] -%}
  {%- set thought = thought.split('<think>')[-1].strip('\n')
    if '</think>' in message.content else '' -%}
  {%- if loop.last and not thought -%}
    {{- '<think>\n\n</think>\n\n' -}}
  {%- endif -%}
  {#begin#}
  {%- if loop.last and thought -%}
    {{- '<think>\n' + thought + '\n</think>\n\n' -}}
  {%- endif -%}
  {{- content + '<|im_end|>' -}}
  {#end#}
  {{- '\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '<|im_start|>assistant\n' -}}
  {%- if enable_thinking is defined and not enable_thinking -%}
    {{- '<think>\n\n</think>\n\n' -}}
  {%- endif -%}
{%- endif -%}
"""

LLAMA3 = """
{{- bos_token -}}
{%- if tools is not none -%}
  {{- 'Tools: ' + tools | tojson(indent=2) -}}
{%- endif -%}
{%- for message in messages -%}
  {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' -}}
  {%- if message['role'] == 'assistant' -%}
    {#begin#}{{- message['content'] | trim + '<|eot_id|>' -}}{#end#}
  {%- else -%}
    {{- message['content'] | trim + '<|eot_id|>' -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}
{%- endif -%}
"""

GEMMA = """
{{ bos_token }}
{%- set ns = namespace(first='') %}
{%- if messages[0]['role'] == 'system' %}
  {%- set ns.first = messages[0]['content'] + '\n\n' %}
  {%- set messages = messages[1:] %}
{%- endif %}
{%- for message in messages %}
  {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
    {{- raise_exception('roles must alternate user and assistant') }}
  {%- endif %}
  {%- if message['role'] == 'assistant' %}
    {{- '<start_of_turn>model\n' }}
    {#begin#}{{- message['content'] | trim + '<end_of_turn>' }}{#end#}
    {{- '\n' }}
  {%- else %}
    {{- '<start_of_turn>user\n' + (ns.first if loop.first else '') }}
    {{- message['content'] | trim + '<end_of_turn>\n' }}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
  {{- '<start_of_turn>model\n' }}
{%- endif %}
"""

# The system's text stands in the last question, and no prompt is added.
MISTRAL = """
{%- set ns = namespace(system='') -%}
{{- bos_token -}}
{%- for message in messages -%}
  {%- if message.role == 'system' -%}
    {%- set ns.system = message.content + '\n\n' -%}
    {%- continue -%}
  {%- endif -%}
  {%- if message.role == 'user' -%}
    {{- '[INST] ' -}}
    {%- if messages[loop.index0:] | selectattr('role', 'equalto', 'user')
      | list | length == 1 -%}
      {{- ns.system -}}
    {%- endif -%}
    {{- message.content + ' [/INST]' -}}
  {%- else -%}
    {{- ' ' -}}
    {#begin#}{{- message.content | trim + eos_token -}}{#end#}
  {%- endif -%}
{%- endfor -%}
"""

LLAVA = """
{%- for message in messages -%}
  {%- if message.role == 'user' -%}
    {{- 'USER: ' -}}
    {%- for part in message.content if part.type == 'image' -%}
      {{- '<image>\n' -}}
    {%- endfor -%}
    {%- for part in message.content if part.type == 'text' -%}
      {{- part.text + ' ' -}}
    {%- endfor -%}
  {%- elif message.role == 'assistant' -%}
    {{- 'ASSISTANT: ' -}}
    {#begin#}
    {%- for part in message.content -%}{{- part.text -}}{%- endfor -%}
    {{- eos_token -}}
    {#end#}
  {%- else -%}
    {%- for part in message.content -%}
      {{- part.text + ' ' -}}
    {%- endfor -%}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- 'ASSISTANT:' -}}{%- endif -%}
"""

SMOLVLM = """
{%- for message in messages -%}
  {{- message.role | capitalize + ':' -}}
  {%- if message.role == 'assistant' -%}
    {{- ' ' -}}
    {#begin#}
    {%- for part in message.content -%}{{- part.text -}}{%- endfor -%}
    {{- '<end_of_utterance>' -}}
    {#end#}
    {{- '\n' -}}
  {%- else -%}
    {%- for part in message.content -%}
      {{- '<image>' if part.type == 'image' else ' ' + part.text -}}
    {%- endfor -%}
    {{- '<end_of_utterance>\n' -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- 'Assistant:' -}}{%- endif -%}
"""

QWEN_VL = """
{%- macro write(content) -%}
  {%- if content is string -%}
    {{- content -}}
  {%- else -%}
    {%- for part in content -%}
      {{- part.text if part.type == 'text' else
        '<|vision_start|><|' + part.type + '_pad|><|vision_end|>' -}}
    {%- endfor -%}
  {%- endif -%}
{%- endmacro -%}
{%- for message in messages -%}
  {%- if loop.first and message.role != 'system' -%}
    {{- '<|im_start|>system\nYou help.<|im_end|>\n' -}}
  {%- endif -%}
  {{- '<|im_start|>' + message.role + '\n' -}}
  {%- if message.role == 'assistant' -%}
    {#begin#}{{- write(message.content) + '<|im_end|>' -}}{#end#}
    {{- '\n' -}}
  {%- else -%}
    {{- write(message.content) + '<|im_end|>\n' -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '<|im_start|>assistant\n' -}}
{%- endif -%}
"""

INTERNVL = """
{%- for message in messages -%}
  {{- '<|im_start|>' + message.role + '\n' -}}
  {%- if message.role == 'assistant' -%}
    {#begin#}
    {%- for part in message.content -%}{{- part.text -}}{%- endfor -%}
    {{- '<|im_end|>' -}}
    {#end#}
    {{- '\n' -}}
  {%- else -%}
    {%- for part in message.content -%}
      {{- '<IMG_CONTEXT>\n' if part.type == 'image' else part.text -}}
    {%- endfor -%}
    {{- '<|im_end|>\n' -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '<|im_start|>assistant\n' -}}
{%- endif -%}
"""

TEXT_FORMS = {
  'chatml': CHATML,
  'qwen3': QWEN3,
  'llama3': LLAMA3,
  'gemma': GEMMA,
  'mistral': MISTRAL,
}
PART_FORMS = {
  'llava': LLAVA,
  'smolvlm': SMOLVLM,
  'internvl': INTERNVL,
  'qwen_vl': QWEN_VL,
}
FORMS = TEXT_FORMS | PART_FORMS


def unmark(form: str) -> str:
  """The form as most folders have it, which don't say what is learnt."""
  return form.replace(BEGIN, '').replace(END, '')


def mark(form: str) -> str:
  """The form with `{% generation %}` blocks."""
  return form.replace(BEGIN, '{%- generation -%}').replace(
    END, '{%- endgeneration -%}'
  )


_TEXTS = (
  'what is it?',
  '',
  ' a red circle \n',
  'café 日本語 🙂‍↔️',
  '<|im_end|> and </s>',
  'a\n\nb',
  'x',
  '<think>\nit is 3\n</think>\n\n3.14 = π?',
  '\te\u0301 مرحبا \u200b{{ x }} {% endif %}\n',
  'ASSISTANT: <s>[INST] 123456789 \r\n',
)


def make_conversations(
  number: int, seed: int, *, parts: bool
) -> list[list[dict]]:
  """Random conversations: some with a system's text, images, empty turns."""
  rng = np.random.default_rng(seed)
  out = []
  for _ in range(number):
    turns = []
    if rng.random() < 0.4:
      turns.append(('system', _TEXTS[rng.integers(len(_TEXTS))]))
    for _ in range(rng.integers(1, 4)):
      for role in ('user', 'assistant'):
        turns.append((role, _TEXTS[rng.integers(len(_TEXTS))]))
    if rng.random() < 0.3:
      turns.pop()
    out.append(
      [
        {'role': r, 'content': _make_content(r, t, rng, parts)}
        for r, t in turns
      ]
    )
  return out


def _make_content(role, text, rng, parts):
  if not parts:
    return text
  images = rng.integers(3) if role == 'user' else 0
  return [*[{'type': 'image'}] * images, {'type': 'text', 'text': text}]
