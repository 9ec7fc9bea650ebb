"""Learning rates against values worked out by hand."""

import re

import ml_collections
import numpy as np
import pytest

from mmjax.config import schema
from mmjax.training import schedule


def _config(kind, warmup=4, final=0.0):
  return ml_collections.ConfigDict(
    {
      'schedule': kind,
      'lr': 2.0,
      'warmup_steps': warmup,
      'final_lr_fraction': final,
    }
  )


@pytest.mark.parametrize('kind', schema.OPTIMIZER['schedule'].choices)
def test_warm_up_is_linear_and_its_last_step_has_the_peak(kind):
  built = schedule.build(_config(kind), 12)
  np.testing.assert_allclose(
    [built(t) for t in range(5)], [0.5, 1.0, 1.5, 2.0, 2.0], rtol=1e-6
  )


@pytest.mark.parametrize(
  'kind, expected',
  [
    # progress 1/2 at step 8, 3/4 at step 10, 1 at step 12.
    ('cosine', [1.0, 0.2928932, 0.0]),
    ('linear', [1.0, 0.5, 0.0]),
    ('constant', [2.0, 2.0, 2.0]),
    # 2 sqrt(4 / (4 + t - 4))
    ('rsqrt', [1.4142135, 1.2649111, 1.1547005]),
  ],
)
def test_shapes(kind, expected):
  built = schedule.build(_config(kind), 12)
  np.testing.assert_allclose(
    [built(t) for t in (8, 10, 12)], expected, rtol=1e-6, atol=1e-7
  )


def test_the_end_is_the_final_fraction():
  for kind in ('cosine', 'linear'):
    built = schedule.build(_config(kind, warmup=0, final=0.25), 10)
    np.testing.assert_allclose(built(10), 0.5, rtol=1e-6)
    np.testing.assert_allclose(built(0), 2.0, rtol=1e-6)


def test_mistakes_are_named():
  with pytest.raises(ValueError, match='warmup_steps=4 leaves nothing'):
    schedule.build(_config('cosine'), 4)
  with pytest.raises(ValueError, match="'cosin' is unknown"):
    schedule.build(_config('cosin'), 40)


@pytest.mark.parametrize(
  'kind, before, steps, done, message',
  [
    ('linear', 12, 8, 6, r'is 1.5e\+00 instead of 1.8e\+00, .* compressed'),
    ('linear', 12, 12, 6, ''),
    ('linear', None, 12, 6, ''),
    ('linear', 12, 8, 0, ''),
    ('linear', 12, 8, 3, ''),  # In the warm-up.
    ('rsqrt', 12, 8, 6, ''),
  ],
)
def test_what_another_length_does_to_the_rate(
  kind, before, steps, done, message
):
  said = schedule.change(_config(kind), before, steps, done)
  assert re.search(message, said) if message else not said
