"""Speed of a run, and the line that shows it."""

import collections
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

import jax


class Meter:
  """Measures the speed of steps, without evaluations and saves.

  Args:
    flops: FLOPs of a step, on all devices together.
    peak: peak FLOP/s of all devices together; None if unknown.
    train_seconds: seconds of training in earlier processes of this run.
  """

  def __init__(
    self,
    *,
    flops: float = 0.0,
    peak: float | None = None,
    train_seconds: float = 0.0,
  ):
    self._flops, self._peak = flops, peak
    self.train_seconds = train_seconds
    self._replaced: int | None = None
    self._reset()

  def _reset(self) -> None:
    self._start = time.perf_counter()
    self._paused = self._waited = 0.0
    self._steps = self._examples = 0
    self._by_source: collections.Counter = collections.Counter()

  @contextmanager
  def paused(self) -> Iterator[None]:
    """A context whose time does not count as training time."""
    start = time.perf_counter()
    yield
    self._paused += time.perf_counter() - start

  def next_batch(self, batches: Any, in_flight: Any) -> Any:
    """The next batch; waiting counts only while the devices have no work."""
    if not batches.ready():
      jax.block_until_ready(in_flight)
    start = time.perf_counter()
    with jax.profiler.TraceAnnotation('wait for data'):
      batch = next(batches)
    self._waited += time.perf_counter() - start
    return batch

  def step(self, examples: int) -> None:
    """Counts one step, on so many examples of all devices."""
    self._steps += 1
    self._examples += examples

  def replaced(self, records: float) -> None:
    """Counts records that couldn't be read."""
    self._replaced = (self._replaced or 0) + int(records)

  def count_examples(
    self, metrics: Mapping[str, Any], sources: Sequence[str]
  ) -> None:
    """Counts the examples of each source of a mixture in a step's metrics."""
    self._by_source.update(
      {source: int(metrics[f'examples/{source}']) for source in sources}
    )

  def report(self) -> dict[str, float]:
    """Means since the last report."""
    seconds = time.perf_counter() - self._start - self._paused
    self.train_seconds += seconds
    step_time = seconds / max(self._steps, 1)
    values = {
      'examples_per_second': self._examples / seconds,
      'step_time': step_time,
      'data_wait': self._waited / seconds,
      'train_seconds': self.train_seconds,
    }
    for source, number in self._by_source.items():
      values[f'examples_per_second/{source}'] = number / seconds
    if self._replaced is not None:
      values['replaced'] = self._replaced  # Of all steps, not the last one.
    if self._peak is not None:
      values['mfu'] = self._flops / step_time / self._peak
    self._reset()
    return values


def duration(seconds: float) -> str:
  """Hours, minutes, seconds.

  >>> duration(3725)
  '1:02:05'
  >>> duration(65)
  '1:05'
  """
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  if hours:
    return f'{hours}:{minutes:02d}:{seconds:02d}'
  return f'{minutes}:{seconds:02d}'


class Progress:
  """One line that stays in place on a terminal, else a line each time.

  Only the first of several hosts prints.
  """

  def __init__(self, steps: int, stream: TextIO | None = None):
    self._steps = steps
    self._prints = jax.process_index() == 0
    self._stream = sys.stdout if stream is None else stream
    self._live = self._stream.isatty()
    self._width = 0

  def show(
    self, step: int, values: dict[str, float], *, first: bool = False
  ) -> None:
    """Step, loss, speed and time left.

    Args:
      step: number of steps done.
      values: metrics of the step.
      first: whether it is the process's first step, whose speed means nothing.
    """
    if not self._prints:
      return
    line = f'step {step}/{self._steps}  loss {values["loss"]:.4f}'
    if not first:
      left = duration((self._steps - step) * values['step_time'])
      speed = f'{values["examples_per_second"]:.0f} examples/s'
      line += f'  {speed}  {left} left'
    self._write(step, line)

  def _write(self, step: int, line: str) -> None:
    del step
    if not self._live:
      print(line, file=self._stream, flush=True)
      return
    self._stream.write('\r' + line.ljust(self._width))
    self._stream.flush()
    self._width = len(line)

  def log(self, message: str) -> None:
    """A line that stays, above the live one."""
    if not self._prints:
      return
    if self._live and self._width:
      self._stream.write('\r' + ' ' * self._width + '\r')
      self._width = 0
    print(message, file=self._stream, flush=True)


class NotebookProgress(Progress):
  """A bar that stays in place below a notebook's cell; logs are lines."""

  def __init__(self, steps: int):
    super().__init__(steps)
    self._shown = None

  def _write(self, step: int, line: str) -> None:
    from IPython import display  # Of the notebook's kernel.

    bar = display.HTML(
      f'<progress value="{step}" max="{self._steps}"></progress> '
      f'<code>{line}</code>'
    )
    if self._shown is None:
      self._shown = display.display(bar, display_id=True)
    else:
      self._shown.update(bar)


def make(steps: int) -> Progress:
  """Makes the line, or bar, of a run of so many steps."""
  is_notebook = type(sys.stdout).__module__.startswith('ipykernel')
  return NotebookProgress(steps) if is_notebook else Progress(steps)
