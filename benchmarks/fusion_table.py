"""Compares all fusions, at several depths, with equal parameters.

Trains `configs/fusion_senses.py:layer` with each fusion and depth, and each
sense alone, with several seeds, and prints the test accuracy of each: mean, the
95% interval of the mean, the fusion's parameters, and the time of a step. The
same command resumes where it was stopped: finished runs are not trained again.
The table is printed after each seed.

  mmjax data prepare shapes_senses
  python -m benchmarks.fusion_table --workdir=runs/fusion_table --seeds=3

All fusions at two depths, three seeds, 300 steps: 177 runs of about 5 minutes
on two CPU cores, 15 hours, not yet run. A part of it:

  python -m benchmarks.fusion_table --workdir=runs/fusion_table --seeds=1 \
    --fusions=low_rank,concat --depths=output --steps=100

Measured on 2026-11-29, jax 0.10.2, two CPU cores shared with much other work:
27 minutes. Both use more than one sense; of one seed and 100 steps, it does not
show which is better:

  fusion                            mean   +- 95%  parameters  ms/step
  image alone                       0.074  -                0      877
  sound alone                       0.032  -                0      824
  clip alone                        0.048  -                0      993
  low_rank at output                0.136  -           59,356     1987
  concat at output                  0.106  -           56,664     1983

A fusion's width is the largest multiple of 4 with which it has at most
`--parameters`, at each of its depths; decision-level fusions have no width.
"""

import json
import math
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from absl import app, flags
from scipy import stats

from experiments import multimodal
from mmjax import fusion
from mmjax.config import overrides
from mmjax.data import shapes_senses
from mmjax.models import fusing
from mmjax.runs import rebuild
from mmjax.training import runner
from mmjax.types import Tokens

_WORKDIR = flags.DEFINE_string('workdir', None, 'folder of runs', required=True)
_SEEDS = flags.DEFINE_integer('seeds', 3, 'number of seeds', lower_bound=1)
_STEPS = flags.DEFINE_integer('steps', 300, 'steps of a run', lower_bound=1)
_FUSIONS = flags.DEFINE_list(
  'fusions', list(fusion.FUSIONS), 'names of the fusions to train'
)
_DEPTHS = flags.DEFINE_list(
  'depths', ['1', 'output'], "depths to fuse at: numbers of blocks, or 'output'"
)
_PARAMETERS = flags.DEFINE_integer(
  'parameters', 60_000, 'most parameters of a fusion, at each depth'
)
_CONFIG = pathlib.Path(__file__).parents[1] / 'configs/fusion_senses.py'
_TARGET = 'event'
_WIDTHS = range(4, 513, 4)

# A row's label -> test accuracy, parameters and step time of each seed.
Rows = dict[str, list[tuple[float, int, float]]]


def main(argv) -> None:
  """Prints a line for each sense, and for each fusion and depth."""
  del argv
  variants = dict(_make_variants(_FUSIONS.value, _DEPTHS.value))
  rows: Rows = {}
  for seed in range(_SEEDS.value):
    for label, changes in variants.items():
      found = _train(label, changes, seed, pathlib.Path(_WORKDIR.value))
      rows.setdefault(label, []).append(found)
    print(format_rows(rows), flush=True)


def _make_variants(names: Sequence[str], depths: Sequence[str]):
  """Yields (label, changes of the config's model) of each row."""
  for sense in shapes_senses.SENSES:
    yield f'{sense} alone', {'encoders': (sense,)}
  for name in names:
    decides = name in fusion.DECISION_FUSIONS
    for depth in [fusing.OUTPUT] if decides else depths:
      at = depth if depth == fusing.OUTPUT else int(depth)
      settings = fit_width(name, _PARAMETERS.value)
      yield f'{name} at {depth}', {'fusion': settings, 'fuse_at': at}


def fit_width(name: str, most: int) -> dict[str, Any]:
  """Settings of a fusion of the three senses with at most so many parameters.

  Args:
    name: name of the fusion.
    most: number of parameters.

  Raises:
    ValueError: if its smallest width has more.
  """
  if name in fusion.DECISION_FUSIONS:
    return {'name': name}
  fits = None
  for width in _WIDTHS:
    settings = make_settings(name, width)
    if count_parameters(name, settings) > most:
      break
    fits = settings
  if fits is None:
    raise ValueError(
      f'{name} of width {_WIDTHS[0]} has more than {most} parameters; raise '
      '--parameters'
    )
  return {'name': name, **fits}


def make_settings(name: str, width: int) -> dict[str, Any]:
  """Settings of a fusion, in proportion to its width."""
  legal = fusion.FUSIONS[name].__dataclass_fields__
  settings = {
    'width': width,
    'query': 'image',
    'depth': 2 if name == 'bottleneck' else 1,
    'num_heads': 4,
    'mlp_dim': 2 * width,
    'size': {'tensor': 7, 'mcb': 256}.get(name, width),
  }
  return {key: v for key, v in settings.items() if key in legal}


def count_parameters(name: str, settings: Mapping[str, Any]) -> int:
  """Number of parameters of a fusion of the three senses, of width 64."""
  module = fusion.FUSIONS[name](**settings)
  one = Tokens(
    jax.ShapeDtypeStruct((1, 2, 64), jnp.float32),
    jax.ShapeDtypeStruct((1, 2), bool),
    jax.ShapeDtypeStruct((1, 64), jnp.float32),
  )
  shapes = jax.eval_shape(
    lambda tokens: module.init(jax.random.key(0), tokens, train=False),
    dict.fromkeys(shapes_senses.SENSES, one),
  )
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))


def _train(
  label: str, changes: Mapping[str, Any], seed: int, workdir: pathlib.Path
) -> tuple[float, int, float]:
  """Test accuracy, parameters of the fusion, and step time of a run.

  Raises:
    SystemExit: if a signal stopped the run before its end.
  """
  config = overrides.load(f'{_CONFIG}:layer')
  config.seed = seed
  with config.unlocked(), config.ignore_type():
    config.train.steps = _STEPS.value
    config.train.log_every = min(50, _STEPS.value)
    config.model.fuse_at = changes.get('fuse_at', fusing.OUTPUT)
    config.model.fusion = dict(changes.get('fusion', {})) or None
    if 'encoders' in changes:
      (sense,) = changes['encoders']
      config.model.encoders = {sense: config.model.encoders[sense]}
      unused = set(shapes_senses.SENSES) - {sense}
      for name in unused & set(config.data.features):
        del config.data.features[name]
  folder = workdir / f'{label.replace(" ", "_")}_{seed}'
  results = runner.run(config, multimodal.build, folder)
  if not results:
    raise SystemExit(130)
  params = rebuild.load(folder).params
  own = [tree for key, tree in params.items() if 'fusion' in key]
  number = sum(leaf.size for leaf in jax.tree.leaves(own))
  lines = (folder / 'metrics.jsonl').read_text().splitlines()
  times = [
    values['step_time']
    for values in map(json.loads, lines)
    if 'step_time' in values
  ]
  # The median leaves out the line with the compilation.
  return (
    results[f'test/{_TARGET}/accuracy'],
    number,
    statistics.median(times),
  )


def format_rows(rows: Rows) -> str:
  """The table so far, each sense alone first, then the best fusion first."""
  best = {
    label: statistics.mean(accuracy for accuracy, *_ in found)
    for label, found in rows.items()
  }
  alone = [label for label in rows if label.endswith(' alone')]
  others = sorted(set(rows) - set(alone), key=lambda label: -best[label])
  possible = shapes_senses.BEST[shapes_senses.SENSES]
  single = max(v for k, v in shapes_senses.BEST.items() if len(k) == 1)
  lines = [
    f'best possible accuracy: {possible:.3f}, of one sense {single:.3f}',
    f'{"fusion":32}  mean   +- 95%  parameters  ms/step',
  ]
  for label in (*alone, *others):
    accuracies, numbers, times = zip(*rows[label], strict=True)
    lines.append(
      f'{label:32}  {best[label]:.3f}  {compute_interval(accuracies):6}  '
      f'{numbers[0]:10,}  {1000 * statistics.median(times):7.0f}'
    )
  return '\n'.join(lines)


def compute_interval(values: Sequence[float]) -> str:
  """Half the 95% interval of a mean, by Student's distribution.

  >>> compute_interval([0.1, 0.2, 0.3])
  '0.248'
  """
  number = len(values)
  if number < 2:
    return '-'
  factor = stats.t.ppf(0.975, number - 1)
  return f'{factor * statistics.stdev(values) / math.sqrt(number):.3f}'


if __name__ == '__main__':
  app.run(main)
