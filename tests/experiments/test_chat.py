"""Runs that learn conversations, from scratch and from published models."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

import mmjax
from experiments import chat
from mmjax import pretrained
from mmjax.cli import main as cli
from mmjax.config import settings
from mmjax.data import sources
from mmjax.errors import ConfigError
from mmjax.runs import init_from, rebuild
from mmjax.training import runner

GOLDEN = Path(__file__).parents[1] / 'pretrained/golden'
TEMPLATE = (
  '{{ bos_token }}{% for m in messages %}{{ m.role + " " + m.content }}'
  '{{ eos_token }}{% endfor %}'
  '{% if add_generation_prompt %}{{ "assistant " }}{% endif %}'
)
MESSAGES = [
  {'role': 'system', 'content': 'a small red circle'},
  {'role': 'user', 'content': 'cat'},
]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A published model that chats."""
  folder = tmp_path_factory.mktemp('published')
  shutil.copytree(GOLDEN / 'llama', folder, dirs_exist_ok=True)
  (folder / 'chat_template.jinja').write_text(TEMPLATE)
  (folder / 'tokenizer_config.json').write_text(
    json.dumps({'bos_token': '<s>', 'eos_token': '</s>'})
  )
  return folder


def _make(make_config, source):
  config = make_config(source, 'chat_shapes.py')
  config.data.features.turns.update(length=61, system='')
  config.data.test_split = ''
  config.tasks.chat.max_new_tokens = 3
  return config


@pytest.fixture(scope='module')
def tuned(make_config, folder, tmp_path_factory):
  """A run of one step that changes nothing."""
  workdir = tmp_path_factory.mktemp('chat')
  return workdir, runner.run(_make(make_config, folder), chat.build, workdir)


@pytest.mark.slow
def test_a_run_chats_as_the_published_model_that_it_began_from(
  tuned, folder, tmp_path, capsys
):
  """By the run's own folder, by `predict`, and as a Hugging Face folder."""
  workdir, _ = tuned
  model, run = pretrained.load(folder), rebuild.load(workdir)
  jax.tree.map(np.testing.assert_array_equal, run.params, model.params)
  want = model.chat(MESSAGES, max_new_tokens=3)
  assert want
  assert run.chat(MESSAGES) == want.strip()
  assert cli.main(['predict', str(workdir), '--question=cat']) == 0
  answer = model.chat(MESSAGES[1:], max_new_tokens=3)
  assert capsys.readouterr().out == f'{answer.strip()}\n'
  assert cli.main(['convert', str(workdir), str(tmp_path / 'out')]) == 0
  again = mmjax.load(tmp_path / 'out')
  jax.tree.map(np.testing.assert_array_equal, again.params, model.params)
  assert again.chat_template == model.chat_template
  with pytest.raises(ConfigError, match="role 'bot' in turn 2; use one of"):
    run.chat([MESSAGES[1], {'role': 'bot', 'content': 'x'}])


@pytest.mark.slow
def test_held_out_conversations_are_measured_by_token_and_by_answer(tuned):
  """The loss is that of the ids and of the mask that the template gives."""
  workdir, results = tuned
  run = rebuild.load(workdir)
  feature = run.preprocessor['turns']
  data = run.config.data
  model = pretrained.load(run.config.init_from)
  logits = model.jit_method('__call__', train=False)
  total = count = 0.0
  for record in sources.open_source(
    data.name, data.eval_split, data_dir=data.data_dir
  ):
    ids, learnt = feature.encode(feature.get(record))
    ids, learnt = np.array(ids[:61]), np.array(learnt[:61])
    out = logits(run.params, {'text': ids[None]})['text_logits'][0, :-1]
    losses = -jax.nn.log_softmax(out)[np.arange(len(ids) - 1), ids[1:]]
    total += losses[learnt[1:]].sum()
    count += learnt[1:].sum()
  np.testing.assert_allclose(
    results['val/turns/loss'], total / count, rtol=1e-4
  )
  assert results['val/turns/perplexity'] == pytest.approx(
    np.exp(results['val/turns/loss'])
  )
  # Eight questions are longer than the arrays.
  assert results['val/turns/too_long'] == 1 and not results['val/turns/exact']


@pytest.mark.parametrize('family', ['gpt2', 'qwen2', 'mistral', 'opt'])
def test_language_models_of_several_families_can_be_trained(
  family, make_config
):
  config = _make(make_config, GOLDEN / family)
  assert init_from.resolve(config).model.name == 'language_model'


def test_the_config_is_refused_without_room_for_an_answer(make_config):
  config = _make(make_config, '')
  config.tasks.chat.max_new_tokens = 61
  with pytest.raises(ConfigError, match='max_new_tokens=61 leaves no room'):
    chat.build(settings.complete(config), None)
