"""Pairs of answers, and conversations up to one."""

import json

import numpy as np
import pytest

from mmjax.data import (
  chat_tokenizers,
  importing,
  preprocess,
  sources,
  tokenizers,
)
from mmjax.errors import ConfigError
from tests.data import chat_forms, chat_tokenizer

USER = {'role': 'user', 'content': ['hi']}
FIRST = {'role': 'assistant', 'content': ['yes?']}
GOOD = {'role': 'assistant', 'content': ['a cat']}
BAD = {'role': 'assistant', 'content': ['no']}
PROMPT = [USER, FIRST, {'role': 'user', 'content': ['what is it?']}]


def build(kind, tokenizer=None, **settings):
  feature = preprocess.build({'x': {'kind': kind, 'length': 67} | settings})
  return feature['x'].with_tokenizer(
    tokenizer or tokenizers.make_byte_tokenizer()
  )


def read(feature, fields, rng=None):
  chosen = feature.choose({'fields': fields}, rng)
  return feature.make_arrays(chosen, rng)


def spell(example, name, tokenizer):
  """The text of a conversation, and of what is learnt."""
  out = []
  for ending in ('mask', 'loss_mask'):
    ids = example[name][example[f'{name}_{ending}']]
    ends = np.flatnonzero(ids == tokenizer.eos_id)
    out.append(''.join(map(tokenizer.decode, np.split(ids, ends + 1))))
  return tuple(out)


@pytest.mark.parametrize('has_template', [False, True])
def test_the_answer_behind_the_prompt_is_learnt(has_template, tmp_path):
  """With the prompt in a field of its own, and with whole conversations."""
  tokenizer = None
  if has_template:
    chat_tokenizer.make().save(str(tmp_path / 'tokenizer.json'))
    form = chat_forms.unmark(chat_forms.CHATML)
    (tmp_path / 'chat_template.jinja').write_text(form)
    names = {'eos_token': '<|im_end|>'}
    (tmp_path / 'tokenizer_config.json').write_text(json.dumps(names))
    tokenizer = chat_tokenizers.load(tmp_path / 'tokenizer.json')
  feature = build('preference', tokenizer)
  apart = {'prompt': PROMPT, 'chosen': [GOOD], 'rejected': [BAD]}
  whole = {'chosen': [*PROMPT, GOOD], 'rejected': [*PROMPT, BAD]}
  got = read(feature, apart, np.random.default_rng(0))
  np.testing.assert_equal(read(feature, whole), got)
  for name, answer in (('x', GOOD), ('x_rejected', BAD)):
    text, loss_mask = spell(got, name, feature.tokenizer)
    assert loss_mask.split() == answer['content'][0].split()
    assert 'yes?' in text and 'yes?' not in loss_mask
  lacking = {'prompt': PROMPT, 'chosen': [GOOD]}
  assert feature.choose({'fields': lacking}, None) is None


def test_pairs_that_teach_nothing_are_refused():
  rng = np.random.default_rng(0)
  pair = {'prompt': PROMPT, 'chosen': [GOOD], 'rejected': [BAD]}
  short = build('preference', length=40)
  with pytest.raises(ConfigError, match='the length 40 cuts off all that the'):
    read(short, pair, rng)
  assert not read(short, pair)['x_loss_mask'].any()
  silent = {**pair, 'rejected': [{**USER, 'content': ['bye']}]}
  with pytest.raises(ConfigError, match='nothing that the assistant says'):
    read(build('preference'), silent, rng)


def test_an_image_stands_before_the_first_question():
  placed = {'image': 'photo', 'image_tokens': 3, 'placeholder': '<unk>'}
  refers = {'role': 'user', 'content': ['see', {'field': 'photo'}]}
  for kind in ('preference', 'prompt'):
    feature = build(kind, **placed).with_features(
      preprocess.build({'photo': {'kind': 'image', 'size': 5}})
    )
    fields = {
      'photo': b'...',
      'prompt': PROMPT,
      'chosen': [GOOD],
      'rejected': [BAD],
      'x': [*PROMPT, GOOD],
    }
    unknown = feature.tokenizer.find_id('<unk>')
    starts = [tuple(np.flatnonzero(read(feature, fields)['x'] == unknown))]
    fields |= {'prompt': [refers], 'x': [refers, GOOD]}
    starts.append(tuple(np.flatnonzero(read(feature, fields)['x'] == unknown)))
    assert starts == [(6, 7, 8), (9, 10, 11)]  # Behind 'user: ', and 'see'.
    del fields['photo']
    with pytest.raises(
      ConfigError, match="the field 'photo', which the record"
    ):
      read(feature, fields)


def test_a_prompt_stops_before_the_last_answer():
  feature = build('prompt')
  text = spell(read(feature, {'x': [*PROMPT, GOOD]}), 'x', feature.tokenizer)[0]
  assert text == 'user: hiassistant: yes?user: what is it?assistant: '
  assert not read(feature, {'x': PROMPT})['x_loss_mask'].any()
  np.testing.assert_equal(
    read(feature, {'x': PROMPT}), read(feature, {'x': [*PROMPT, GOOD]})
  )
  system = {'role': 'system', 'content': ['be']}
  last = read(build('prompt', last=1), {'x': [system, *PROMPT, GOOD]})
  text = spell(last, 'x', feature.tokenizer)[0]
  assert text == 'system: beuser: what is it?assistant: '
  short = build('prompt', length=20)
  assert not read(short, {'x': PROMPT})['x_mask'].any()
  with pytest.raises(ConfigError, match=r'more than data.*length=20; raise'):
    read(short, {'x': PROMPT}, np.random.default_rng(0))


def test_columns_of_trl_are_imported(tmp_path):
  """Explicit and implicit prompts, as messages and as texts."""
  turn = lambda role, text: {'role': role, 'content': text}
  asked, good, bad = (
    turn('user', 'what?'),
    turn('assistant', 'a cat'),
    turn('assistant', 'no'),
  )
  forms = [
    {'prompt': [asked], 'chosen': [good], 'rejected': [bad]},
    {'chosen': [asked, good], 'rejected': [asked, bad]},
    {'prompt': 'what?', 'chosen': 'a cat', 'rejected': 'no'},
  ]
  path = tmp_path / 'rows.jsonl'
  rows = [
    {**form, 'id': str(i), 'split': 'train'} for i, form in enumerate(forms)
  ]
  path.write_text('\n'.join(map(json.dumps, rows)))
  importing.import_data(
    'jsonl',
    str(path),
    importing.Settings('pairs', splits={'train': 1.0}),
    data_dir=tmp_path,
    progress=False,
  )
  source = sources.open_source('pairs', 'train', data_dir=tmp_path)
  assert {source.kinds[name] for name in forms[0]} == {'turns'}
  assert not any('captions' in record['fields'] for record in source)
  feature = build('preference')
  first, *others = (read(feature, record['fields']) for record in source)
  assert spell(first, 'x', feature.tokenizer) == (
    'user: what?assistant: a cat',
    'a cat',
  )
  assert len(others) == 2
  for other in others:
    np.testing.assert_equal(other, first)
