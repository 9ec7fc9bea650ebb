"""Trains small models on fake devices, over many meshes, and compares.

python tests/parallel/meshes.py [--every] [OBJECTIVE ...]

Ten steps of each objective on every mesh of the axes, in both styles, with and
without accumulation; what comes out is compared with one device's parameters.
Objectives that draw (masked, match) draw again for each device and micro-batch:
they are compared with as many micro-batches, and not with `pmap`. Without
--every, one mesh of three axes and, for some, `pmap` over the fourth. Prints a
table as it goes and, in the last line, the largest differences as JSON.
"""

import dataclasses
import itertools
import json
import math
import os
import sys

# Of this process; tests of several processes say how many.
DEVICES = int(os.environ.get('MESHES_DEVICES', 8))
os.environ['XLA_FLAGS'] = (
  f'{os.environ.get("XLA_FLAGS", "")} '
  f'--xla_force_host_platform_device_count={DEVICES}'
)

import flax.linen as nn  # noqa: E402
import jax  # noqa: E402
import numpy as np  # noqa: E402
import tokenizers as published  # noqa: E402
from jax.sharding import NamedSharding  # noqa: E402
from jax.sharding import PartitionSpec as P  # noqa: E402

from mmjax import models, tasks  # noqa: E402
from mmjax.config import settings  # noqa: E402
from mmjax.data import features, preprocess, tokenizers  # noqa: E402
from mmjax.parallel import mesh as mesh_lib  # noqa: E402
from mmjax.training import experiment, program  # noqa: E402
from mmjax.training.frozen import FrozenModel  # noqa: E402

STEPS, BATCH, TEXT, VOCABULARY, CLASSES = 10, 16, 16, 64, 7
STACK = {'width': 16, 'depth': 1, 'num_heads': 8, 'mlp_dim': 32}
# A bias of the keys changes nothing, so its gradient is a rounding error, which
# Adam makes a whole step of.
STACK |= {'block': {'attention_bias': ('query', 'value', 'out')}}
TEXTS = {'name': 'transformer', **STACK}
IMAGE = {'name': 'vit', 'patch_size': 4, **STACK}
DECODER = {'name': 'text', **STACK}
FIELDS = {
  'name': 'multimodal',
  'embed_dim': 16,
  'logit_scale_init': 10.0,
  'encoders': {'image': IMAGE, 'text': TEXTS},
  'fusion': {'name': 'concat', **STACK},
}
# Objective -> (its settings, the model).
OBJECTIVES = {
  'contrastive': (
    {'contrastive': {'kind': 'softmax'}},
    {
      'name': 'dual_encoder',
      'embed_dim': 16,
      'logit_scale_init': 10.0,
      'image': IMAGE,
      'text': TEXTS,
    },
  ),
  'captioning': (
    {'captioning': {}},
    {'name': 'encoder_decoder', 'image': IMAGE, 'decoder': DECODER},
  ),
  'vqa': (
    {'vqa_classification': {}},
    {
      'name': 'encoder_decoder',
      'image': IMAGE,
      'question': TEXTS,
      'fusion': {'name': 'cross_attention', 'query': 'question', **STACK},
      'decoder': DECODER,
    },
  ),
  # With two teachers: the EMA and a frozen model.
  'few_labels': (
    {
      'classify': {'target': 'label'},
      'pseudo_labels': {'target': 'label', 'threshold': 0.0},
      'mean_teacher': {'target': 'label', 'ramp_steps': 5},
      'distill': {'target': 'label', 'teacher': 'frozen'},
    },
    {'name': 'multimodal', 'encoders': {'image': IMAGE}},
  ),
  'fields': (
    {
      'align': {'features': ['image', 'text']},
      'classify': {'target': 'label'},
      'regress': {'target': 'size'},
      'translate': {'target': 'note'},
    },
    {**FIELDS, 'decoder': DECODER},
  ),
  # `match` draws by the similarity of what `align` embeds.
  'drawn': (
    {
      'align': {'features': ['image', 'text']},
      'match': {},
      'masked': {'feature': 'text', 'fraction': 0.3},
    },
    FIELDS,
  ),
}
# Those that draw again for each device and micro-batch.
DRAWN = ('drawn',)


class Data:
  """Random examples; some texts are short, some images missing."""

  def batch(self, i: int, size: int = BATCH) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(i)
    lengths = rng.integers(3, TEXT + 1, (2, size, 1))
    masks = np.arange(TEXT)[None, None] < lengths
    views = {
      name: rng.normal(size=(size, 16, 16, 3)).astype(np.float32)
      for name in ('strong', 'other')
    }
    fields = self._draw_fields(np.random.default_rng((i, 1)), size)
    return {
      'image': rng.normal(size=(size, 16, 16, 3)).astype(np.float32),
      'image_mask': rng.random(size) < 0.9,
      'text': rng.integers(0, VOCABULARY, (size, TEXT)).astype(np.int32),
      'text_mask': masks[0],
      'question': rng.integers(0, VOCABULARY, (size, TEXT)).astype(np.int32),
      'question_mask': masks[1],
      'label': rng.integers(-1, CLASSES, size).astype(np.int32),
      'source_index': rng.integers(0, 2, size).astype(np.int32),
      **views,
      **{f'{name}_mask': np.ones(size, bool) for name in views},
      **fields,
    }

  def _draw_fields(self, rng, size: int) -> dict[str, np.ndarray]:
    """Further targets, some of them missing."""
    lengths = rng.integers(0, TEXT + 1, (size, 1))
    return {
      'size': rng.normal(size=(size, 2)).astype(np.float32),
      'size_mask': rng.random(size) < 0.8,
      'note': rng.integers(0, VOCABULARY, (size, TEXT)).astype(np.int32),
      'note_mask': np.arange(TEXT)[None] < lengths,
    }


def make_features() -> dict[str, features.Feature]:
  """The features of `Data`."""
  image = {'kind': 'image', 'size': 16, 'field': 'image'}
  text = {'kind': 'text', 'length': TEXT}
  built = preprocess.build(
    {
      **dict.fromkeys(('image', 'strong', 'other'), image),
      **dict.fromkeys(('text', 'note'), text),
      'label': {'kind': 'category', 'classes': tuple('abcdefg')},
      'size': {'kind': 'vector', 'mean': (0.0, 0.0), 'std': (1.0, 1.0)},
    }
  )
  names = [*tokenizers.SPECIALS, *map(str, range(4, VOCABULARY))]
  words = published.Tokenizer(
    published.models.WordLevel({name: i for i, name in enumerate(names)})
  )
  words.add_special_tokens(list(tokenizers.SPECIALS))
  tokenizer = tokenizers.Tokenizer(words)
  for name in ('text', 'note'):
    built[name] = dataclasses.replace(built[name], tokenizer=tokenizer)
  return built


def build(name: str) -> experiment.Experiment:
  """The objective with its model."""
  chosen, model = OBJECTIVES[name]
  data, fields = Data(), make_features()
  built = tasks.build(chosen, tasks.TASKS)
  module = models.build(
    model,
    models.DataSizes(
      VOCABULARY,
      text_length=TEXT,
      question_length=TEXT,
      answer_length=TEXT,
      num_answers=CLASSES,
      features=fields,
    ),
    tasks.find_output_spec(built, fields),
  )
  return experiment.Experiment(
    model=module,
    objectives=tasks.objectives(built, fields),
    train_data=data,
    init_batch=data.batch(0, 2),
    sources=('a', 'b'),
    frozen_models={'distill': freeze(module)} if 'distill' in built else {},
  )


def freeze(module: nn.Module) -> FrozenModel:
  """An untrained model of the same kind, as a teacher."""
  init = lambda: module.init(jax.random.key(7), Data().batch(0, 2), train=False)
  return FrozenModel(
    apply=lambda params, batch: module.apply(
      {'params': params}, batch, train=False
    ),
    params=jax.tree.map(np.asarray, nn.meta.unbox(jax.jit(init)()['params'])),
    boxed=jax.eval_shape(init)['params'],
  )


def train(
  name: str, mesh: dict[str, int], style: str = 'pjit', accumulate: int = 1
) -> dict[str, np.ndarray]:
  """Parameters by path after ten steps, and metrics of a source of data."""
  config = settings.complete(
    {
      # A gradient that is hardly more than rounding makes a step as long as any
      # other's with AdamW's 1e-8, and its sign is that of the rounding.
      'optimizer': {
        'name': 'adamw',
        'lr': 1e-3,
        'weight_decay': 0.1,
        'eps': 1e-6,
      },
      'train': {
        'steps': STEPS,
        'batch_size': BATCH,
        'accumulate': accumulate,
        'ema_decay': 0.9,
      },
      'mesh': {'data': 1, **mesh, 'style': style},
    }
  )
  number = math.prod(mesh.values())
  devices = jax.devices()[:number]
  # As on a pod, neighbours in the mesh belong to different hosts.
  grid = mesh_lib.build(config.mesh, devices[::2] + devices[1::2])
  built = build(name)
  made = program.build(config, built, grid)
  seed = np.uint32(0)
  state = jax.jit(made.plan.init, out_shardings=made.plan.shardings)(seed)
  data = Data()
  rows = mesh_lib.batch_rows(grid, BATCH)

  def place(i):
    own = {key: array[rows] for key, array in data.batch(i).items()}
    return mesh_lib.shard_batch(own, grid)

  update = made.trace(place(0)).lower().compile()
  frozen = made.put(built.frozen_models)
  for i in range(STEPS):
    state, metrics = update(state, place(i), frozen)
  gather = jax.jit(lambda x: x, out_shardings=NamedSharding(grid, P()))
  flat = jax.tree_util.tree_leaves_with_path(gather((state.params, state.ema)))
  of_sources = {k: np.asarray(v) for k, v in metrics.items() if '/b' in k}
  return of_sources | {
    jax.tree_util.keystr(path): np.asarray(x) for path, x in flat
  }


def difference(got, want) -> float:
  """Largest distance of a parameter, relative to its norm (where not 0)."""
  return max(
    float(np.linalg.norm(got[name] - x) / (np.linalg.norm(x) or 1.0))
    for name, x in want.items()
  )


def cases(name: str, every: bool):
  """(mesh, style, accumulate)."""
  if not every:
    yield {'fsdp': 2, 'tensor': 2, 'sequence': 2}, 'pjit', 2
    if name in ('contrastive', 'few_labels', 'fields'):
      yield {'data': 4}, 'pmap', 2
    return
  for sizes in itertools.product((1, 2, 4, 8), repeat=len(mesh_lib.AXES)):
    mesh = dict(zip(mesh_lib.AXES, sizes, strict=True))
    if math.prod(sizes) > DEVICES:
      continue
    for accumulate in (1, 2):
      yield mesh, 'pjit', accumulate
      if math.prod(sizes) == mesh['data'] and name not in DRAWN:
        yield mesh, 'pmap', accumulate


def main(arguments: list[str]) -> None:
  # The programs run for a millisecond, so compiling well doesn't pay.
  jax.config.update('jax_disable_most_optimizations', True)
  every = '--every' in arguments
  names = [a for a in arguments if a != '--every'] or list(OBJECTIVES)
  largest = {}
  for name in names:
    want = {}
    largest[name] = 0.0
    for mesh, style, accumulate in cases(name, every):
      parts = accumulate if name in DRAWN else 1
      if parts not in want:
        want[parts] = train(name, {'data': 1}, accumulate=parts)
      got = train(name, mesh, style, accumulate)
      found = difference(got, want[parts])
      largest[name] = max(largest[name], found)
      sizes = ' '.join(f'{a}={n}' for a, n in mesh.items() if n > 1) or 'one'
      print(f'{name:12} {sizes:32} {style} x{accumulate}  {found:.1e}')
  print(json.dumps(largest))


if __name__ == '__main__':
  main(sys.argv[1:])
