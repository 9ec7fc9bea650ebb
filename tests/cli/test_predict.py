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
  assert predict._prompt(run, 'text', 'runs/dual').flag == 'text'
  message = r"^runs/dual: the model cannot .*; use --text='a photo of"
  with pytest.raises(ConfigError, match=message):
    predict._prompt(run, '', 'runs/dual')
