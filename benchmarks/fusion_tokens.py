"""Tokens of encoders that are trained once, for comparing many fusions.

Each encoder is trained alone to predict the event of `shapes_senses`, as far as
its sense allows. Its tokens at some depths are then kept, and a fusion of
them is trained in seconds, without the encoders.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from benchmarks import fusion_training
from mmjax import models, objectives
from mmjax.config import settings
from mmjax.data import melodies, shapes_senses
from mmjax.errors import ConfigError
from mmjax.models import fusing
from mmjax.training import experiment as experiments
from mmjax.types import Array, Batch, Params, TokenVectors

# The target beside the event.
SUM = 'sum'
_VALUES = (
  shapes_senses.SHAPES,
  melodies.NAMES,
  tuple(shapes_senses.DIRECTIONS),
)
# From all senses every answer can be right; from one, 1/16 of events and 1/4 of
# sums.
_TARGETS = ('event', SUM)


class KeptTokens(nn.Module):
  """Stands for an encoder whose tokens are the input."""

  @nn.compact
  def __call__(
    self, values: Array, mask: Array | None = None, *, train: bool
  ) -> TokenVectors:
    """Tokens of values [B, N, D] and their mask [B, N]."""
    del train
    return TokenVectors.of(values, mask)


def read(
  config: Any,
  depths: Sequence[fusing.Depth],
  folder: pathlib.Path,
  steps: int,
) -> dict[fusing.Depth, fusion_training.Data]:
  """The experiment of the kept tokens of each depth.

  Args:
    config: a config on `shapes_senses`.
    depths: numbers of blocks, or 'output'.
    folder: the tokens are kept in its `tokens.npz`, and read from there.
    steps: steps that the encoders are trained for.

  Raises:
    ConfigError: for another data set, or if a setting is refused.
  """
  if config.data.name != 'shapes_senses':
    raise ConfigError(
      f'data.name={config.data.name!r} has no senses that encoders could be '
      'trained for alone; use --encoder_steps=0'
    )
  file = folder / 'tokens.npz'
  kept = dict(np.load(file)) if file.exists() else {}
  if not all(f'train/{depth}/image' in kept for depth in depths):
    kept = _make(config, depths, steps)
    np.savez(file, **kept)
  return {depth: _make_data(config, kept, str(depth)) for depth in depths}


def _make(
  config: Any, depths: Sequence[fusing.Depth], steps: int
) -> dict[str, np.ndarray]:
  """Trains the encoders, and encodes all records.

  Returns:
    `SPLIT/DEPTH/SENSE` [n, N, D] with `..._mask` [n, N], `SPLIT/event` [n] and
    `SPLIT/sum` [n].
  """
  data = fusion_training.read(_make_unimodal(config, steps))
  params = fusion_training.train(data, data.model, (config.seed,)).params[0]
  encode = jax.jit(lambda batch: _encode(data, params, batch, depths))
  classes = data.preprocessor['event'].classes
  kept: dict[str, list[np.ndarray]] = {}
  for split, batches in (('train', data.train), ('test', data.test)):
    for batch in batches:
      real = batch.get('mask', np.ones(len(batch['event']), bool))
      arrays = {**encode(batch), 'event': batch['event']}
      arrays[SUM] = add_values([classes[i] for i in batch['event']])
      for key, array in arrays.items():
        kept.setdefault(f'{split}/{key}', []).append(np.asarray(array)[real])
  return {key: np.concatenate(arrays) for key, arrays in kept.items()}


def _make_unimodal(config: Any, steps: int) -> Any:
  """The config with a loss for each encoder alone, and none for the fusion."""
  config = config.copy_and_resolve_references()
  senses = tuple(config.model.encoders)
  with config.unlocked(), config.ignore_type():
    config.tasks = {
      'unimodal': {'target': 'event', 'weights': dict.fromkeys(senses, 1.0)}
    }
    config.model.fusion = {'name': 'mean_decision'}
    config.model.fuse_at = fusing.OUTPUT
    config.model.unimodal_outputs = True
    config.train.steps = steps
  return config


def add_values(events: Sequence[str]) -> np.ndarray:
  """The numbers of an event's three values, added modulo 4, int32 [n].

  Whatever two of the senses say, each sum is as likely: none is of use without
  the other two.

  >>> add_values(['square falling left', 'star dipping down'])
  array([2, 1], dtype=int32)
  """
  numbers = [
    sum(v.index(w) for v, w in zip(_VALUES, e.split(), strict=True))
    for e in events
  ]
  return np.asarray(numbers, np.int32) % 4


def _encode(
  data: fusion_training.Data,
  params: Params,
  batch: Batch,
  depths: Sequence[fusing.Depth],
) -> dict[str, Array]:
  """`DEPTH/SENSE` [B, N, D] and `DEPTH/SENSE_mask` [B, N] of a batch."""

  def run(model: nn.Module) -> dict[str, Array]:
    made, out = data.experiment.make_inputs(batch), {}
    for name, encoder in model.encoders.items():
      inputs = made[name], made.get(f'{name}_mask')
      found = fusing.encode_at(encoder, name, depths, *inputs, train=False)
      for depth in depths:
        out[f'{depth}/{name}'] = found[depth].values
        out[f'{depth}/{name}_mask'] = found[depth].mask
    return out

  return nn.apply(run, data.model)({'params': params})


def _make_data(
  config: Any, kept: Mapping[str, np.ndarray], depth: str
) -> fusion_training.Data:
  """The experiment of the tokens of one depth."""
  train, test = (
    _cut(_select(kept, f'{split}/', depth), size)
    for split, size in (
      ('train', config.train.batch_size),
      ('test', len(kept['test/event'])),
    )
  )
  senses = [name for name in shapes_senses.SENSES if name in train[0]]
  model = models.Multimodal(
    encoders={name: KeptTokens() for name in senses},
    output_sizes={
      'event': np.prod([len(values) for values in _VALUES]).item(),
      SUM: 4,
    },
  )
  experiment = experiments.Experiment(
    model=model,
    objectives={
      target: (1.0, objectives.Classification(target, 0.0))
      for target in model.output_sizes
    },
    train_data=None,
    init_batch={key: array[:2] for key, array in train[0].items()},
  )
  return fusion_training.Data(
    settings.complete(config), experiment, train, test
  )


def _select(
  kept: Mapping[str, np.ndarray], split: str, depth: str
) -> dict[str, np.ndarray]:
  """The arrays of a split at a depth, and its targets."""
  start = f'{split}{depth}/'
  arrays = {
    key.removeprefix(start): array
    for key, array in kept.items()
    if key.startswith(start)
  }
  for target in _TARGETS:
    arrays[target] = kept[f'{split}{target}']
    arrays[f'{target}_mask'] = np.ones(len(arrays[target]), bool)
  return {**arrays, 'mask': np.ones(len(arrays[SUM]), bool)}


def _cut(arrays: Mapping[str, np.ndarray], size: int) -> list[Batch]:
  """Whole batches of so many examples."""
  number = len(arrays['mask']) // size
  return [
    {key: array[i * size : (i + 1) * size] for key, array in arrays.items()}
    for i in range(number)
  ]
