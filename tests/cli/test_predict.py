"""What `mmjax predict` says of a task that the model doesn't have."""

import types

import pytest

from mmjax import tasks
from mmjax.cli import predict
from mmjax.errors import ConfigError


def test_a_dual_encoder_alone_asks_for_texts():
  run = types.SimpleNamespace(
    tasks={'contrastive': tasks.TASKS['contrastive']()},
    unable=lambda what: f'the model cannot {what}',
  )
  assert predict._find_use(run, 'text', 'runs/dual').flag == 'text'
  message = r"^runs/dual: .* from inputs without a text; use --text='a ph"
  with pytest.raises(ConfigError, match=message):
    predict._find_use(run, '', 'runs/dual')


def test_of_several_tasks_the_flag_chooses(capsys):
  names = ('masked', 'classify', 'distill', 'align')
  run = types.SimpleNamespace(tasks={n: tasks.TASKS[n]() for n in names})
  prompts = {name: run.tasks[name].predict_use for name in names}
  assert predict._find_use(run, '', 'runs/x') is prompts['masked']
  note = 'also --task=classify or distill, --text for the task align\n'
  assert note in capsys.readouterr().err
  assert predict._find_use(run, '', 'runs/x', 'classify') is prompts['classify']
  assert not capsys.readouterr().err
  with pytest.raises(ConfigError, match="alone, --task 'align' is unknown"):
    predict._find_use(run, '', 'runs/x', 'align')


def test_a_text_is_counted_as_the_model_reads_it(capsys):
  feature = types.SimpleNamespace(uses_tokenizer=True, length=5, as_input=True)
  counts = {True: 5, False: 6}
  run = types.SimpleNamespace(
    preprocessor={'text': feature},
    tokenizer=types.SimpleNamespace(
      count=lambda text, as_input=False: counts[as_input]
    ),
  )
  predict._warn_if_cut(run, ['abc'], 'text')
  assert not capsys.readouterr().err
  counts[True] = 7
  predict._warn_if_cut(run, ['abc'], 'text')
  assert "'abc' has 7 tokens; the model reads the first 5" in (
    capsys.readouterr().err
  )
