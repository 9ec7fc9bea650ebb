"""Texts in a batch are those alone; and the probabilities of given ones."""

import json
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import scipy.special

from mmjax import pretrained
from mmjax.data import chat_ids
from mmjax.errors import ConfigError
from mmjax.pretrained import base
from tests.data import chat_forms

GOLDEN = Path(__file__).parent / 'golden'
RED = PIL.Image.new('RGB', (24, 18), 'red')
# A template without a system prompt, whose turns are texts.
TEXTS = """
{{- bos_token -}}
{%- for message in messages -%}
  {{- message.role + ' ' + message.content + eos_token -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- 'assistant ' -}}{%- endif -%}
"""


@pytest.fixture(scope='module')
def models(tmp_path_factory):
  """A language model and one with images, which chat."""
  found = {}
  tokens = {'bos_token': '<s>', 'eos_token': '</s>'}
  for name, form in (('llama', TEXTS), ('llava', chat_forms.LLAVA)):
    folder = tmp_path_factory.mktemp('models') / name
    shutil.copytree(GOLDEN / name, folder)
    (folder / 'chat_template.jinja').write_text(chat_forms.unmark(form))
    (folder / 'tokenizer_config.json').write_text(json.dumps(tokens))
    found[name] = pretrained.load(folder)
  return found


def test_seeds_of_its_own_make_a_text_the_same_in_any_batch(models):
  """Of prompts of several lengths; those of images are among the server's."""
  prompts = ['a', 'a small red cat', 'red']
  settings = {'temperature': 1.5, 'top_p': 0.9, 'max_new_tokens': 6}
  write = models['llama'].generate
  together = write(prompts, seed=[3, 4, 5], **settings)
  for row in (2, 0, 1):
    alone = write(prompts[row], seed=3 + row, **settings)
    assert alone == together[row : row + 1]
  assert len(set(together)) == 3


def test_a_text_ends_before_its_stop_string(models):
  settings = {'max_new_tokens': 8, 'eos_id': ()}
  prompts = ['a small', 'red']
  first, second = models['llama'].generate(prompts, **settings)
  stop = first[3:6]
  found = models['llama'].generate(prompts, stop=[stop, 'nowhere'], **settings)
  assert found == [text.partition(stop)[0] for text in (first, second)]
  assert len(found[0]) < len(first)


OPTIONS = ('red', 'a small cat', 'circle')


@pytest.mark.parametrize('name', ['llama', 'llava'])
def test_an_option_has_the_probability_of_the_whole_conversation(models, name):
  model = models[name]
  content = 'a small'
  if name == 'llava':
    content = [{'type': 'image', 'image': RED}, content]
  messages = [{'role': 'user', 'content': content}]
  scores = model.score_options(messages, OPTIONS)
  assert tuple(scores) == OPTIONS
  shared = {}
  if name == 'llava':
    shared = {'image': model.prepare_batch([RED], ['<image>'])[0]['image']}
  for option, score in scores.items():
    ids, loss_mask = _write_whole(model, option)
    text, mask = base.pad_rows([ids], 0, length=48)
    out = model.jit_method('__call__', train=False)(
      model.params, {'text': text, 'text_mask': mask, **shared}
    )
    log_probs = scipy.special.log_softmax(out['text_logits'][0], axis=-1)
    gained = log_probs[np.arange(len(ids) - 1), ids[1:]]
    np.testing.assert_allclose(score, gained[loss_mask[1:]].sum(), rtol=1e-4)
  with pytest.raises(ConfigError, match='one answer or more, each once'):
    model.score_options(messages, ['red', 'red'])


def _write_whole(model, option):
  """Ids of a conversation and its answer, and which the assistant says."""
  is_seeing = hasattr(model, 'tokens_per_image')
  parts = [{'type': 'image'}, {'type': 'text', 'text': 'a small'}]
  messages = [
    {'role': 'user', 'content': parts if is_seeing else 'a small'},
    {
      'role': 'assistant',
      'content': [{'type': 'text', 'text': option}] if is_seeing else option,
    },
  ]
  found = chat_ids.encode(
    model.tokenizer, model.chat_template, messages, completes=is_seeing
  )
  ids, loss_mask = [], []
  for one, is_learnt in zip(found.ids, found.loss_mask, strict=True):
    is_image = is_seeing and one in model.module.placeholders
    number = model.tokens_per_image() if is_image else 1
    ids += [one] * number
    loss_mask += [is_learnt] * number
  return np.asarray(ids), np.asarray(loss_mask)
