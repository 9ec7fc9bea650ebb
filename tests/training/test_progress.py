"""The line on a terminal and elsewhere; speed without pauses."""

import io
import time

import pytest

from mmjax.training import progress

VALUES = {'loss': 1.25, 'examples_per_second': 320.0, 'step_time': 2.0}


class _Terminal(io.StringIO):
  def isatty(self):
    return True


def test_a_plain_line_each_time():
  stream = io.StringIO()
  line = progress.Progress(100, stream)
  line.show(40, VALUES)
  line.log('hello')
  assert stream.getvalue() == (
    'step 40/100  loss 1.2500  320 examples/s  2:00 left\nhello\n'
  )


def test_a_terminal_has_one_live_line():
  stream = _Terminal()
  line = progress.Progress(100, stream)
  line.show(40, VALUES)
  line.show(41, VALUES)
  assert '\n' not in stream.getvalue()
  line.log('hello')
  assert stream.getvalue().endswith('\rhello\n')


@pytest.mark.parametrize(
  'seconds, text',
  [(0, '0:00'), (59.7, '1:00'), (65, '1:05'), (3725, '1:02:05')],
)
def test_durations(seconds, text):
  assert progress.duration(seconds) == text


def test_speed_leaves_pauses_out():
  meter = progress.Meter(flops=4.0, peak=100.0, train_seconds=50.0)
  meter.step(13)
  meter.step(7)
  with meter.paused():
    time.sleep(1.0)
  time.sleep(0.02)
  values = meter.report()
  assert 0.01 <= values['step_time'] < 0.5  # Of two steps.
  assert values['examples_per_second'] == pytest.approx(
    10 / values['step_time']
  )
  assert values['mfu'] == pytest.approx(4.0 / values['step_time'] / 100.0)
  assert values['train_seconds'] == pytest.approx(50 + 2 * values['step_time'])
  assert 'replaced' not in values
  meter.replaced(2)
  meter.replaced(1)
  assert meter.report()['replaced'] == 3
