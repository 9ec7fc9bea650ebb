"""Conversations as texts and ids, and what is learnt of them."""

import pathlib
import pickle

import pytest

from mmjax.data import (
  chat_ids,
  chat_templates,
  chat_tokenizers,
  show_turns,
  sources,
  tokenizers,
)
from mmjax.data.features import Turns
from mmjax.errors import ConfigError
from tests.data import chat_forms, chat_tokenizer

TURNS = [
  {'role': 'user', 'content': 'what is it?'},
  {'role': 'assistant', 'content': ' a red circle '},
  {'role': 'user', 'content': 'x'},
  {'role': 'assistant', 'content': ''},
]


@pytest.fixture(scope='module')
def tokenizer():
  return chat_tokenizer.make()


def _make(form: str) -> chat_templates.ChatTemplate:
  return chat_templates.ChatTemplate({'default': form}, chat_forms.TOKENS)


def _find_learnt(written: chat_ids.EncodedConversation) -> list[str]:
  """Runs of learnt text; tokens here begin and end between characters."""
  runs, last = [], False
  for (begin, end), is_learnt in zip(
    written.offsets, written.loss_mask, strict=True
  ):
    if is_learnt:
      runs.append(runs.pop() if last else '')
      runs[-1] += written.text[begin:end]
    last = is_learnt
  return runs


@pytest.mark.parametrize(
  ('form', 'want'),
  [
    ('chatml', [' a red circle <|im_end|>', '<|im_end|>']),
    ('llama3', ['a red circle<|eot_id|>', '<|eot_id|>']),
    ('mistral', ['a red circle</s>', '</s>']),
  ],
)
def test_the_answer_and_the_token_behind_it_are_learnt(form, want, tokenizer):
  template = _make(chat_forms.unmark(chat_forms.FORMS[form]))
  assert _find_learnt(chat_ids.encode(tokenizer, template, TURNS)) == want


def test_a_thought_that_the_template_writes_by_itself_is_learnt(tokenizer):
  """Its place is that behind the prompt, since a stand-in has no thought."""
  template = _make(
    '{% for m in messages %}{{ m.role + ":" }}'
    '{% if m.role == "assistant" and "//" in m.content %}'
    '{{ "[" + m.content.split("//")[0] + "]" + m.content.split("//")[1] }}'
    '{% else %}{{ m.content }}{% endif %}{{ "<|im_end|>" }}{% endfor %}'
    '{% if add_generation_prompt %}{{ "assistant:" }}'
    '{% if enable_thinking is false %}{{ "[]" }}{% endif %}{% endif %}'
  )
  turns = [TURNS[0], {'role': 'assistant', 'content': 'hm//red'}]
  for settings in ({}, {'enable_thinking': False}):
    written = chat_ids.encode(tokenizer, template, turns, **settings)
    assert _find_learnt(written) == ['[hm]red<|im_end|>']


@pytest.mark.parametrize(
  ('form', 'messages', 'words'),
  [
    ('{% if x %}', TURNS, 'line 1: the chat template is not Jinja'),
    (chat_forms.GEMMA, [TURNS[0], TURNS[1], TURNS[1]], r'turn 3 \(assistant\)'),
    ('{{ messages[0].a.b }}', TURNS, r'turn 1 \(user\)'),
    ('{{ messages.append(1) }}', TURNS, 'turn 1'),
    ('{{ "".__class__.__mro__ }}', TURNS, 'turn 1'),
    ('{{ messages[0].content }}', [], 'a list of messages'),
    ('x', [{'content': 'x'}], 'turn 1 is .* not an object with a role'),
    ('x', [{'role': 'user', 'content': object()}], 'is not plain data'),
    ('x', [TURNS[0], {'role': 'user', 'content': '\ufdd0'}], 'turn 2 .*U.FDD0'),
    (
      '{% for m in messages %}{{ m.content | reverse }}{{ m.content }}'
      '{% endfor %}{% for m in messages %}{{ m.content }}{% endfor %}',
      TURNS,
      r'turn 2 \(assistant\): .* cannot be found',
    ),
    (
      '{% set x %}{% generation %}ab{% endgeneration %}{% endset %}{{ x[1:] }}',
      TURNS,
      'overlap',
    ),
    (
      chat_forms.CHATML,
      [TURNS[0], {'role': 'assistant', 'tool_calls': [], 'content': None}],
      'turn 2 ',
    ),
  ],
)
def test_what_a_template_cannot_write_is_refused_with_its_turn(
  form, messages, words, tokenizer
):
  with pytest.raises(ConfigError, match=words):
    chat_ids.encode(tokenizer, _make(form), messages)


def _load(folder: pathlib.Path, form: str):
  chat_tokenizer.make().save(str(folder / 'tokenizer.json'))
  _make(form).save(folder)
  return chat_tokenizers.load(folder / 'tokenizer.json')


def test_a_feature_writes_by_the_template_beside_its_tokenizer(tmp_path):
  """Also by what a run's folder has of it, and in another process."""
  form = chat_forms.unmark(chat_forms.LLAMA3) + '{{ strftime_now("%Y") }}'
  first = _load(tmp_path, form)
  folder = tmp_path / 'run'
  folder.mkdir()
  first.save(folder / 'tokenizer.json')
  value = [{**turn, 'content': [turn['content']]} for turn in TURNS]
  arrays = [
    Turns(name='t', length=64, tokenizer=tokenizer, date='1999-12-31')
    .make_arrays(value)
    .values()
    for tokenizer in (
      first,
      chat_tokenizers.load(folder / 'tokenizer.json'),
      pickle.loads(pickle.dumps(first)),
    )
  ]
  ids, mask, loss_mask = next(iter(arrays))
  written = first.encode_chat(TURNS)
  assert ids[mask].tolist()[:-1] != list(written.ids)  # Of another year.
  assert '1999' in first.decode(ids[mask])
  assert loss_mask.sum() == sum(written.loss_mask) > 0
  for others in arrays[1:]:
    for got, want in zip(others, (ids, mask, loss_mask), strict=True):
      assert (got == want).all()
  end, eos = first.end_ids
  assert first.find_id('<|eot_id|>') == end and first.eos_id == eos
  assert chat_tokenizers.decode_answer(first, [*ids[-3:-1], end, 7]) == ''


@pytest.mark.parametrize(
  ('settings', 'turns', 'words'),
  [
    ({}, TURNS[:1], 'nothing that the assistant says'),
    ({'length': 7}, TURNS, 'length 7 cuts off .* raise data.features.t.length'),
  ],
)
def test_training_refuses_a_conversation_without_a_token_to_learn(
  settings, turns, words, tmp_path
):
  tokenizer = _load(tmp_path, chat_forms.unmark(chat_forms.CHATML))
  value = [{**turn, 'content': [turn['content']]} for turn in turns]
  feature = Turns(name='t', tokenizer=tokenizer, **settings)
  feature.make_arrays(value)  # In evaluation it is only masked.
  with pytest.raises(ConfigError, match=words):
    feature.make_arrays(value, rng=1)
  read = Turns(name='t', tokenizer=tokenizer, requires_answer=False, **settings)
  assert not read.make_arrays(value, rng=1)['t_loss_mask'].any()


@pytest.mark.parametrize(
  ('files', 'want'),
  [
    ({'chat_template.json': b'{"chat_template": "a"}'}, 'a'),
    (
      {
        'chat_template.jinja': b'b',
        'chat_template.json': b'{"chat_template": "a"}',
      },
      'b',
    ),
    (
      {
        'tokenizer_config.json': b'{"eos_token": {"content": "z"},'
        b'"chat_template": [{"name": "default", "template": "{{eos_token}}"}]}'
      },
      'z',
    ),
    (
      {
        'processor_config.json': b'{"chat_template": "c"}',
        'tokenizer_config.json': b'{"chat_template": "d"}',
      },
      'c',
    ),
  ],
)
def test_the_template_is_found_where_transformers_finds_it(files, want):
  template = chat_templates.find(files, {'eos_token': 'y'})
  assert template.render(TURNS) == want
  with pytest.raises(ConfigError, match="no chat template 'rag'; use one of"):
    template.render(TURNS, name='rag')


@pytest.mark.parametrize(
  'files',
  [
    {'chat_template.json': b'{'},
    {'chat_template.json': b'[]'},
    {'tokenizer_config.json': b'{"chat_template": 3}'},
  ],
)
def test_a_broken_file_is_refused(files):
  with pytest.raises(ConfigError, match=next(iter(files))):
    chat_templates.find(files, {})


def test_content_has_the_form_that_the_template_reads():
  """Most vision templates read parts alone, most others texts alone."""
  reads = {
    name: (template.takes_texts, template.takes_parts)
    for name, form in chat_forms.FORMS.items()
    for template in [_make(chat_forms.unmark(form))]
  }
  assert reads.pop('qwen_vl') == (True, True)
  parts = [reads.pop(name) for name in ('llava', 'smolvlm', 'internvl')]
  assert set(parts) == {(False, True)}
  assert set(reads.values()) == {(True, False)}
  # These get an image as its placeholder, if there is one.
  template = _make(chat_forms.unmark(chat_forms.CHATML))
  image, marks = {'type': 'image'}, {'image': '<i>'}
  assert template.make_content([image, 'a', image], marks) == '<i>\na\n<i>'
  with pytest.raises(ConfigError, match='reads no parts of the type image'):
    template.make_content([image, 'a'])
  with pytest.raises(ConfigError, match='reads no parts of the type video'):
    template.make_content([{'type': 'video'}], marks)


@pytest.mark.parametrize('chats', [True, False])
def test_conversations_are_shown_token_by_token(chats, tmp_path):
  """Those that are learnt in another style, by the template or without one."""
  if chats:
    tokenizer = _load(tmp_path, chat_forms.unmark(chat_forms.CHATML))
  else:
    tokenizer = tokenizers.make_byte_tokenizer()
  value = [{**turn, 'content': [turn['content']]} for turn in TURNS]
  feature = Turns(name='t', tokenizer=tokenizer)
  drawn = show_turns.draw_tokens(feature, value, '')
  ids, loss_mask = feature.encode(value)
  first, rest = drawn.plain.split('\n')
  assert first == f'{len(ids)} tokens, {sum(loss_mask)} learnt'
  assert rest.count('\u2502') == len(ids)
  green = [span for span in drawn.spans if span.style == 'bold green']
  assert len(green) == sum(loss_mask)
  text = ''.join(drawn.plain[span.start : span.end] for span in green)
  end = '<|im_end|>' if chats else '<eos>'
  assert text.replace('\u0120', ' ') == f' a red circle {end}{end}'
  tokenizer.save(str(tmp_path / 'tokenizer.json'))
  record = {'id': '7', 'fields': {'t': value}, 'metadata': {}}
  source = sources.ListSource([record], tmp_path, {'t': 'turns'})
  (shown,) = show_turns.iterate_shown(source)
  assert shown.plain.endswith(drawn.plain) and shown.plain.startswith('7, t: ')
  with pytest.raises(ConfigError, match='no field is of the kind turns'):
    list(show_turns.iterate_shown(sources.ListSource([record]), 'x'))
