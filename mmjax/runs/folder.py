"""A run's folder: its config, metrics, results, images and checkpoints.

config.json      the config, with all defaults
experiment.json  which experiment file it was trained with, see
                 `experiment_record`
metrics.jsonl    one line a logged step
results.json     the last evaluation, name -> number
tensorboard/     the same numbers as events
samples/         images, SPLIT_EVALUATOR_STEP.png
checkpoints/     one folder a step
running.json     while a process runs there, which one, see `owner`
and the experiment's files: tokenizer, preprocessing
"""

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from mmjax.config import flag_values, schema, settings
from mmjax.errors import ConfigError, suggest
from mmjax.runs import experiment_record, metric_writers, workdir


class RunFolder:
  """Reads on every host, writes on the first one only.

  Raises:
    ConfigError: if the path can't be a folder.
  """

  def __init__(self, path: Path | str):
    workdir.check(path)
    self.path = Path(path).absolute()
    self.writes = jax.process_index() == 0

  def check(self, config: Any) -> None:
    """Refuses to resume with a config other than the run's.

    Raises:
      ConfigError: naming the fields that must not change, or a new one that
        the model does not have.
    """
    path = self.path / 'config.json'
    if not path.exists():
      return
    old, new = settings.read_json(path), settings.to_json(config)
    changed = settings.differences(old, new)
    if experiment_record.is_same(self.path, new['experiment']):
      changed.pop('experiment', None)  # From another folder.
    if changed:
      _refuse_unknown(new, changed)
      changed = _join_sources(changed, old, new)
      raise ConfigError(
        f'{self.path} holds a run with another config:\n'
        + ''.join(
          f'  {path}: {before!r} -> {after!r}\n'
          for path, (before, after) in changed.items()
        )
        + f'{_way_back(changed)}; to train with the new values, choose another '
        '--workdir, or delete this one'
      )

  def steps(self) -> int | None:
    """`train.steps` of the process before; None if there was none."""
    path = self.path / 'config.json'
    return settings.read_json(path)['train']['steps'] if path.exists() else None

  def begin(
    self, config: Any, files: Mapping[str, Callable[[Path], None]]
  ) -> None:
    """Writes config.json and the experiment's files, at every start.

    Training never reads them back; `mmjax.runs.rebuild.load` does.
    """
    if not self.writes:
      return
    self.path.mkdir(parents=True, exist_ok=True)
    for name, write in files.items():
      path = self.path / name
      path.parent.mkdir(parents=True, exist_ok=True)
      write(path)
    metric_writers.write_json(
      self.path / 'config.json', settings.to_json(config)
    )
    experiment_record.write(self.path, config.experiment)

  def open_writers(self, config: Any, step: int) -> metric_writers.Writers:
    """All writers of a run that resumes from `step`."""
    if not self.writes:
      return metric_writers.Writers(())
    out: list[metric_writers.MetricWriter] = [
      metric_writers.JsonLines(self.path / 'metrics.jsonl', step)
    ]
    if config.train.tensorboard:
      out.append(metric_writers.TensorBoard(self.path / 'tensorboard', step))
    if config.train.wandb_project:
      out.append(
        metric_writers.WeightsAndBiases(
          config.train.wandb_project, self.path, settings.to_json(config)
        )
      )
    return metric_writers.Writers(out)

  def trained_seconds(self, step: int) -> float:
    """Time of the run's steps up to `step`, without evaluations."""
    path = self.path / 'metrics.jsonl'
    seconds = 0.0
    for record in metric_writers.read_json_lines(path):
      if record['step'] <= step:
        seconds = record.get('train_seconds', seconds)
    return seconds

  def save_results(
    self, results: Mapping[str, float], step: int, seconds: float
  ) -> dict[str, float]:
    """Writes results.json; returns what is in it."""
    out = dict(results) | {'step': step, 'train_seconds': seconds}
    if self.writes:
      metric_writers.write_json(self.path / 'results.json', out)
    return out

  def results(self) -> dict[str, float]:
    """The last evaluation, {} if there was none."""
    path = self.path / 'results.json'
    return settings.read_json(path) if path.exists() else {}

  def save_image(self, image: Any, split: str, name: str, step: int) -> None:
    """Writes an evaluator's `PIL.Image`, if there is one."""
    if image is None or not self.writes:
      return
    samples = self.path / 'samples'
    samples.mkdir(exist_ok=True)
    file = f'{split}_{name}_{step:06d}.png'.replace('/', '_')
    image.save(samples / file)


def _refuse_unknown(
  config: Mapping[str, Any], changed: Mapping[str, tuple[Any, Any]]
) -> None:
  """Refuses a new setting that its model, or part of a model, does not have.

  Args:
    config: config of the flags, as JSON has it.
    changed: its fields that differ from the run's, path -> (old, new).
  """
  # Imported here: settings are checked before models take time to import.
  from mmjax import models
  from mmjax.config import components

  tables = components.of(config).tables
  for path, (before, _) in changed.items():
    *parents, name = path.split('.')
    section: Any = config
    for parent in parents:
      section = section.get(parent) or {}
    if before is not None or parents[:1] != ['model'] or 'name' not in section:
      continue
    legal = ['name', *models.settings_of(section['name'], tables)]
    if name not in (*legal, *models.PARTS):
      raise ConfigError(
        f'{path} is unknown; {section["name"]} has {legal[1:]}'
        f'{suggest(name, legal)}'
      )


def _join_sources(
  changed: Mapping[str, tuple[Any, Any]],
  old: Mapping[str, Any],
  new: Mapping[str, Any],
) -> dict[str, tuple[Any, Any]]:
  """Makes one field of a mixture or source that only one config has.

  A flag sets it as a whole; its own fields exist only while it does.

  Args:
    changed: fields that differ, path -> (old, new).
    old: the run's config, as JSON has it.
    new: the config of the flags.
  """
  before, after = (c.get('data', {}).get('mixture') for c in (old, new))
  if before is None or after is None:
    pairs = {'data.mixture': (before, after)}
  else:
    pairs = {
      f'data.mixture.{name}': (before.get(name), after.get(name))
      for name in before.keys() | after.keys()
    }
  joined = dict(changed)
  for path, pair in pairs.items():
    if pair.count(None) == 1:
      joined = {p: v for p, v in joined.items() if not p.startswith(f'{path}.')}
      joined[path] = pair
  return dict(sorted(joined.items()))


def _way_back(changed: Mapping[str, tuple[Any, Any]]) -> str:
  """How to resume a run, given its changed fields: path -> (old, new)."""
  if 'init_from' in changed:
    # The fields of model and data follow from it.
    changed = {'init_from': changed['init_from']}
  new = {
    path
    for path, (before, _) in changed.items()
    if before is None and path.partition('.')[0] in schema.OPEN_SECTIONS
  }
  flags = [
    shlex.quote(f'--config.{path}={flag_values.write(before)}')
    for path, (before, _) in changed.items()
    if path not in new
  ]
  steps = [f'leave out {" and ".join(sorted(new))}'] if new else []
  steps += [f'add {" ".join(flags)}'] if flags else []
  return f'to resume it, {" and ".join(steps)}'


def table(results: Mapping[str, float]) -> str:
  """Results as lines of name and number."""
  width = max(map(len, results), default=0)
  return '\n'.join(
    f'  {name:{width}}  {value:.4g}' for name, value in sorted(results.items())
  )
