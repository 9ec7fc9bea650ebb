"""Right drawings by sampler and number of steps, and the time of each.

  python -m benchmarks.samplers --run=runs/draw_shapes

Prints a table of drawings that have all that their captions ask for and nothing
else, from a run that draws data whose drawings can be read without a model,
such as `shapes`. The time is that of a drawing in a batch, the median of the
batches after the first, which compiles.
"""

import dataclasses
import statistics
import time

import numpy as np
from absl import app, flags

from mmjax import tasks
from mmjax.data import sources
from mmjax.errors import ConfigError
from mmjax.evaluators import drawings, masked
from mmjax.runs import rebuild
from mmjax.tasks import base, denoise

_RUN = flags.DEFINE_string('run', None, 'folder of a run', required=True)
_SPLIT = flags.DEFINE_string('split', 'test', 'split of the captions')
_NUM_EXAMPLES = flags.DEFINE_integer(
  'num_examples', 200, 'number of captions', lower_bound=1
)
_BATCH_SIZE = flags.DEFINE_integer(
  'batch_size', 50, 'captions of a batch', lower_bound=1
)
_SAMPLERS = flags.DEFINE_list(
  'samplers', ['euler', 'heun', 'dpm++', 'ddpm'], 'samplers to compare'
)
_STEPS = flags.DEFINE_list('steps', ['5', '10', '20', '50'], 'steps to compare')
_GUIDANCE = flags.DEFINE_float('guidance', None, "default: the task's")


def main(argv) -> None:
  """Prints the table."""
  del argv
  run = rebuild.load(_RUN.value)
  task = base.find_task(run, tasks.Draw)
  data = run.config.data
  holds = drawings.CHECKS.get(data.name.split('/')[0])
  if holds is None:
    raise ConfigError(
      f'drawings of {data.name} are read by no function; use a run of '
      f'{", ".join(drawings.CHECKS)}'
    )
  source = sources.open_source(data.name, _SPLIT.value, data_dir=data.data_dir)
  captions = [
    source[i]['fields']['captions'][0]
    for i in range(min(_NUM_EXAMPLES.value, len(source)))
  ]
  print('| sampler | steps | right | ms a drawing |\n|---|---|---|---|')
  for sampler in _SAMPLERS.value:
    for steps in map(int, _STEPS.value):
      chosen = dataclasses.replace(
        denoise.choose(task, guidance=_GUIDANCE.value, steps=steps),
        sampler=sampler,
      )
      right, seconds = _measure(run, chosen, captions, holds)
      print(
        f'| {sampler} | {steps} | {right:.3f} | {1000 * seconds:.0f} |',
        flush=True,
      )


def _measure(run, task, captions, holds) -> tuple[float, float]:
  """The fraction of right drawings, and the seconds of one."""
  settings = task.sampling(run.preprocessor.features)
  right, seconds, size = [], [], _BATCH_SIZE.value
  for start in range(0, len(captions), size):
    texts = captions[start : start + size]
    padded = texts + texts[:1] * (size - len(texts))
    batch = denoise.make_texts_batch(run, task, padded, start)
    begin = time.perf_counter()
    images = np.asarray(run.predict(task.maker, batch, **settings))
    seconds.append((time.perf_counter() - begin) / size)
    pixels = masked.to_pixels(run.preprocessor[task.feature], images)
    right += [holds(x, text) for x, text in zip(pixels, texts, strict=False)]
  return float(np.mean(right)), statistics.median(seconds[1:] or seconds)


if __name__ == '__main__':
  app.run(main)
