"""Compares all fusions, at several depths, with equal parameters.

  mmjax data prepare shapes_senses
  python -m benchmarks.fusion_table --workdir=runs/fusion_table

Trains the encoders of `configs/fusion_senses.py:layer,small` once, each alone
for the part of the event that its sense has, and keeps their tokens
(`benchmarks.fusion_tokens`). Every fusion is then trained on the tokens of each
depth, from several seeds, for two targets at once: the event, of which each
sense has a part, and the sum of the three senses' numbers modulo 4, which is
independent of any two of them. Prints the test accuracy (mean, and the 95%
interval of the mean), the fusion's parameters, and the CPU time of a step, next
to each sense alone.

With `--encoder_steps=0`, encoders are trained together with each fusion, which
takes any config that classifies:

  python -m benchmarks.fusion_table --workdir=runs/fusion_emoji --curves \
    --config=configs/classify_emoji.py --encoder_steps=0 --steps=250 \
    --depths=output --fusions=pooled_concat,low_rank,concat,mean_decision

Finished rows are kept in the folder's `rows.jsonl`: the same command resumes,
and with other `--fusions` or `--depths` it adds rows. A fusion's width is the
largest multiple of 4 with which it has at most `--parameters`, at each of its
depths; decision-level fusions have no width, and fuse outputs alone. `--curves`
also measures how the accuracy of the first seed suffers as modalities go
missing or get noisy.
docs/fusion.md has rows of both.
"""

import json
import math
import pathlib
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
from absl import app, flags
from flax import linen as nn
from scipy import stats

from benchmarks import fusion_tokens, fusion_training
from mmjax import fusion
from mmjax.config import overrides
from mmjax.errors import ConfigError
from mmjax.evaluators import robustness
from mmjax.models import fusing
from mmjax.types import TokenVectors

_CONFIG = flags.DEFINE_string(
  'config',
  str(
    pathlib.Path(__file__).parents[1] / 'configs/fusion_senses.py:layer,small'
  ),
  'a config of `experiments.multimodal` with the task `classify`',
)
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'folder of the finished rows', required=True
)
_SEEDS = flags.DEFINE_integer('seeds', 3, 'number of seeds', lower_bound=1)
_STEPS = flags.DEFINE_integer(
  'steps', 400, 'steps from each seed', lower_bound=1
)
_ENCODER_STEPS = flags.DEFINE_integer(
  'encoder_steps',
  800,
  'steps of the encoders alone; 0 trains them with each fusion',
  lower_bound=0,
)
_FUSIONS = flags.DEFINE_list(
  'fusions', list(fusion.FUSIONS), 'names of the fusions to train'
)
_DEPTHS = flags.DEFINE_list(
  'depths',
  ['output', '1'],
  "depths to fuse at: numbers of blocks, 'input', 'output', or some: 1+output",
)
_PARAMETERS = flags.DEFINE_integer(
  'parameters',
  20_000,
  'most parameters of a fusion, at each depth',
  lower_bound=1,
)
_CURVES = flags.DEFINE_bool(
  'curves', False, 'whether to measure the accuracy without modalities'
)
_WIDTHS = range(4, 513, 4)

# What a row of the table holds: `label`, `parameters`, `accuracies` by target
# and seed, `step_time`, and perhaps `curves`.
Row = Mapping[str, Any]
ByDepth = Mapping[str, fusion_training.Data]


def main(argv) -> None:
  """Trains the rows that the folder lacks, and prints the table."""
  del argv
  _check_names(_FUSIONS.value, _DEPTHS.value)
  if _CURVES.value and _ENCODER_STEPS.value:
    raise ConfigError(
      '--curves takes away what encoders read, and kept tokens have no '
      'encoders; use --encoder_steps=0'
    )
  config = overrides.load(_CONFIG.value)
  config.train.steps = _STEPS.value
  settings = {
    'config': config.to_dict(),
    'seeds': _SEEDS.value,
    'parameters': _PARAMETERS.value,
    'encoder_steps': _ENCODER_STEPS.value,
    'curves': _CURVES.value,
  }
  folder = pathlib.Path(_WORKDIR.value)
  rows = read_rows(folder, settings)
  variants = dict(
    make_variants(read_data(config, folder), _FUSIONS.value, _DEPTHS.value)
  )
  missing = [label for label in variants if label not in rows]
  print(f'{len(variants)} rows, {len(missing)} of them to train', flush=True)
  for number, label in enumerate(missing, start=1):
    start = time.monotonic()
    row = rows[label] = train_row(label, *variants[label])
    with (folder / 'rows.jsonl').open('a') as file:
      file.write(json.dumps(row) + '\n')
    means = (f'{statistics.mean(v):.3f}' for v in row['accuracies'].values())
    spent = time.monotonic() - start
    print(
      f'{number}/{len(missing)} {label}: {", ".join(means)}; {spent:.0f} s',
      flush=True,
    )
  print(format_rows([rows[label] for label in variants]))
  for label in variants if _CURVES.value else ():
    print(f'\n{label}\n{format_curves(rows[label]["curves"])}')


def read_data(config: Any, folder: pathlib.Path) -> ByDepth:
  """What is trained at each depth of the flags, and at the output."""
  names = dict.fromkeys((fusing.OUTPUT, *_DEPTHS.value))
  if not _ENCODER_STEPS.value:
    return dict.fromkeys(names, fusion_training.read(config))
  depths = {name: parse_depth(name) for name in names}
  several = [name for name, found in depths.items() if len(found) > 1]
  if several:
    raise ConfigError(
      f'--depths={several[0]}: the tokens of a depth are kept apart; fuse at '
      'several with --encoder_steps=0'
    )
  found = fusion_tokens.read(
    config, [at for (at,) in depths.values()], folder, _ENCODER_STEPS.value
  )
  return {name: found[at] for name, (at,) in depths.items()}


def _check_names(names: Sequence[str], depths: Sequence[str]) -> None:
  unknown = sorted(set(names) - set(fusion.FUSIONS))
  if unknown:
    raise ConfigError(
      f'--fusions has {", ".join(unknown)}; use some of '
      f'{", ".join(fusion.FUSIONS)}'
    )
  for depth in depths:
    parse_depth(depth)


def parse_depth(depth: str) -> tuple[fusing.Depth, ...]:
  """The depths of a name in the table.

  Raises:
    ConfigError: if it is not legal.

  >>> parse_depth('1+output')
  (1, 'output')
  """
  parts = depth.split('+')
  return fusing.parse_depths([int(p) if p.isdigit() else p for p in parts])


def read_rows(
  folder: pathlib.Path, settings: Mapping[str, Any]
) -> dict[str, Row]:
  """The finished rows of a folder, by label.

  Args:
    folder: made if it doesn't exist.
    settings: what all rows of a table share.

  Raises:
    ConfigError: if the folder's rows have others.
  """
  folder.mkdir(parents=True, exist_ok=True)
  file, text = folder / 'settings.json', json.dumps(settings, default=list)
  if file.exists() and json.loads(file.read_text()) != json.loads(text):
    raise ConfigError(
      f'the rows in {folder} are of other settings than these, or of another '
      'config; use another --workdir'
    )
  file.write_text(text)
  kept = folder / 'rows.jsonl'
  lines = kept.read_text().splitlines() if kept.exists() else []
  return {row['label']: row for row in map(json.loads, lines)}


def make_variants(
  by_depth: ByDepth, names: Sequence[str], depths: Sequence[str]
) -> Iterator[tuple[str, tuple[fusion_training.Data, nn.Module, int]]]:
  """Yields the label of each row, its data and model, and its parameters.

  These are the parameters of the fusion alone.
  """
  data = by_depth[fusing.OUTPUT]
  for name, encoder in data.model.encoders.items():
    model = data.model.clone(
      encoders={name: encoder},
      fusion=None,
      fuse_at=fusing.OUTPUT,
      modality_dropout=0.0,
    )
    yield f'{name} alone', (data, model, 0)
  for depth in depths:
    data, at = by_depth[depth], parse_depth(depth)
    tokens = data.encode_shapes()
    for name in names:
      decides = name in fusion.DECISION_FUSIONS
      if decides and at != (fusing.OUTPUT,):
        continue
      module = make_fusion(name, _PARAMETERS.value, tokens)
      number = 0 if decides else count_parameters(module, tokens)
      # Kept tokens are the outputs of what stands for their encoders.
      fuse_at = fusing.OUTPUT if _ENCODER_STEPS.value else at
      model = data.model.clone(fusion=module, fuse_at=fuse_at)
      yield f'{name} at {depth}', (data, model, number * len(at))


def make_fusion(
  name: str, most: int, tokens: Mapping[str, TokenVectors]
) -> nn.Module:
  """The widest fusion that has at most `most` parameters, as of `fit_width`."""
  if name in fusion.DECISION_FUSIONS:
    return fusion.FUSIONS[name]()
  return fusion.FUSIONS[name](**fit_width(name, most, tokens))


def fit_width(
  name: str, most: int, tokens: Mapping[str, TokenVectors]
) -> dict[str, Any]:
  """Settings of a fusion of features or tokens with at most `most` parameters.

  Args:
    name: name of the fusion.
    most: number of parameters.
    tokens: shapes of what it fuses, by modality.

  Raises:
    ConfigError: if its smallest width has more.
  """

  def fits(width: int) -> bool:
    module = fusion.FUSIONS[name](**make_settings(name, width, tokens))
    return count_parameters(module, tokens) <= most

  low, high = -1, len(_WIDTHS)
  while high - low > 1:
    middle = (low + high) // 2
    low, high = (middle, high) if fits(_WIDTHS[middle]) else (low, middle)
  if low < 0:
    raise ConfigError(
      f'{name} of width {_WIDTHS[0]} has more than {most} parameters; raise '
      '--parameters'
    )
  return make_settings(name, _WIDTHS[low], tokens)


def make_settings(
  name: str, width: int, tokens: Mapping[str, TokenVectors]
) -> dict[str, Any]:
  """Settings of a fusion, in proportion to its width."""
  legal = fusion.FUSIONS[name].__dataclass_fields__
  settings = {
    'width': width,
    'query': next(iter(tokens)),
    'depth': 2 if name == 'bottleneck' else 1,
    'num_heads': 4,
    'mlp_dim': 2 * width,
    'size': {'tensor': 7, 'mcb': 256}.get(name, width),
  }
  return {key: v for key, v in settings.items() if key in legal}


def count_parameters(
  module: nn.Module, tokens: Mapping[str, TokenVectors]
) -> int:
  """Number of parameters of a fusion of tokens of these shapes."""
  shapes = jax.eval_shape(
    lambda tokens: module.init(jax.random.key(0), tokens, train=False),
    dict(tokens),
  )
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))


def train_row(
  label: str, data: fusion_training.Data, model: nn.Module, parameters: int
) -> Row:
  """Trains a model from all seeds, and measures what the table shows of it."""
  found = fusion_training.train(data, model, range(_SEEDS.value))
  row = {
    'label': label,
    'parameters': parameters,
    'accuracies': found.accuracies,
    'step_time': found.step_time,
  }
  if _CURVES.value:
    points = fusion_training.measure_curves(data, model, found.params[0])
    row['curves'] = [tuple(point) for point in points]
  return row


def format_rows(rows: Sequence[Row]) -> str:
  """The table, each modality alone first, then the best fusion first.

  The best is that of the last target.
  """
  targets = list(rows[0]['accuracies'])
  mean = lambda row, target: statistics.mean(row['accuracies'][target])
  alone = [row for row in rows if row['label'].endswith(' alone')]
  others = [row for row in rows if row not in alone]
  others.sort(key=lambda row: -mean(row, targets[-1]))
  titles = [f'{target} | ± 95%' for target in targets]
  lines = [
    f'| fusion | {" | ".join(titles)} | parameters | ms/step |',
    '|---' * (3 + 2 * len(targets)) + '|',
  ]
  for row in (*alone, *others):
    cells = [row['label']]
    for target in targets:
      values = row['accuracies'][target]
      cells += [f'{mean(row, target):.3f}', compute_interval(values)]
    cells += [f'{row["parameters"]:,}', f'{1000 * row["step_time"]:.1f}']
    lines.append(f'| {" | ".join(cells)} |')
  return '\n'.join(lines)


def format_curves(curves: Sequence[Sequence[Any]]) -> str:
  """The lines of `mmjax.evaluators.robustness`, of a row's `curves`."""
  return robustness.format_curves(
    [robustness.Point(*point) for point in curves]
  )


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
