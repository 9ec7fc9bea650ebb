"""The config: filled up with defaults, and refused before any data is read."""

import difflib
import importlib.util
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections

from mmjax import presets
from mmjax.config import fields, mixture, schema
from mmjax.errors import ConfigError

_SYNONYMS = {  # Field -> names that other libraries give it.
  'optimizer.lr': ('learning_rate', 'base_lr'),
  'optimizer.b1': ('beta1', 'adam_beta1'),
  'optimizer.b2': ('beta2', 'adam_beta2'),
  'optimizer.clip_norm': ('max_grad_norm', 'grad_clip'),
  'train.steps': ('max_steps', 'num_steps', 'iterations', 'epochs'),
  'train.accumulate': ('accum_freq', 'grad_accum'),
}


def default_config() -> ml_collections.ConfigDict:
  """Every field of the fixed sections, with its default."""
  return complete(ml_collections.ConfigDict())


def complete(config: Any) -> ml_collections.ConfigDict:
  """A copy of `config` in which missing fields have their defaults.

  Raises:
    ConfigError: if a section is not a dict, or a part of the model is nearly a
      preset.
  """
  config = ml_collections.ConfigDict(
    config.to_dict() if hasattr(config, 'to_dict') else dict(config)
  )
  with config.unlocked():
    for name, field in schema.TOP.items():
      if name not in config:
        config[name] = field.default
    for section in (*schema.SECTIONS, *schema.OPEN_SECTIONS):
      if section not in config:
        config[section] = ml_collections.ConfigDict()
      if not isinstance(config[section], ml_collections.ConfigDict):
        raise ConfigError(
          f'{section}={config[section]!r} is not legal: it is a section, a '
          'dict of fields'
        )
      for name, field in schema.SECTIONS.get(section, {}).items():
        if name not in config[section]:
          config[section][name] = field.default
    model = config.model.to_dict()
    if (expanded := presets.expand(model)) != model:
      config.model = expanded
  return config


def validate(config: Any) -> None:
  """Checks a completed config: names, types, ranges, and fields together.

  Raises:
    ConfigError: naming the field by its dotted path, its value and what is
      legal; all mistakes at once, a line each.
  """
  open_sections = (*schema.OPEN_SECTIONS, *_own_sections(config))
  known = (*schema.TOP, *schema.SECTIONS, *open_sections)
  errors = [unknown(name, known) for name in config if name not in known]
  for name, field in schema.TOP.items():
    errors += _wrong(name, field, config[name])
  for section, known_fields in schema.SECTIONS.items():
    for name, value in config[section].items():
      path = f'{section}.{name}'
      if name not in known_fields:
        errors.append(unknown(path, [f'{section}.{n}' for n in known_fields]))
      else:
        errors += _wrong(path, known_fields[name], value)
  if not errors:
    errors = _mixture_faults(config.data)
  for section in open_sections:
    for name, value in config.get(section, {}).items():
      errors += _not_plain(f'{section}.{name}', value)
  if errors:
    raise ConfigError('\n'.join(errors))
  errors = _together(config)
  if errors:
    raise ConfigError('\n'.join(errors))


def _own_sections(config: Any) -> tuple[str, ...]:
  """Sections that the config's experiment adds, if it has any of its own."""
  fixed = {*schema.TOP, *schema.SECTIONS, *schema.OPEN_SECTIONS}
  own = [config[name] for name in config if name not in fixed]
  if not any(isinstance(section, ml_collections.ConfigDict) for section in own):
    return ()
  # Imported here: settings are checked before models take time to import.
  from mmjax.config import components

  return components.of(config).sections


def unknown(path: str, known: Iterable[str]) -> str:
  """The message about a field that doesn't exist."""
  known = list(known)
  name = path.rpartition('.')[2]
  meant = [field for field, names in _SYNONYMS.items() if name in names]
  close = meant or near(path, known)
  way_out = (
    f'did you mean {" or ".join(close)}?'
    if close
    else f'legal are {", ".join(_beside(path, known))}'
  )
  return f'{path} is not a config field; {way_out}'


def _beside(path: str, known: Sequence[str]) -> Sequence[str]:
  """The known paths of a path's section, or of the nearest one around it."""
  section = path
  while section:
    section = section.rpartition('.')[0]
    inside = [p for p in known if p.rpartition('.')[0] == section]
    if inside:
      return inside
  return known


def near(path: str, known: Iterable[str]) -> list[str]:
  """Up to three known paths that a wrong path or name may stand for.

  Those with the same last name, else those of a section of the same name that
  are spelled alike, the nearest first.

  >>> near('batch_size', ('data.name', 'train.batch_size', 'train.steps'))
  ['train.batch_size']
  >>> near('train.step', ('train.dtype', 'train.steps', 'train.steps_at_once'))
  ['train.steps']
  """
  known = list(known)
  if path in known:
    return [path]
  last = lambda p: p.rpartition('.')[2]
  same = [p for p in known if last(p) == last(path)]
  if same and '.' in path:
    begun = [p for p in known if p.startswith(f'{path}_')]
    return (begun + _best({p: _ratio(path, p) for p in same}))[:3]
  if same:
    # That of the training before that of the evaluation.
    return sorted(same, key=lambda p: not p.startswith('train.'))[:3]
  scores = {p: _likeness(path, p) for p in known}
  if max(scores.values(), default=0) >= 0.6:
    return _best(scores)
  names = difflib.get_close_matches(last(path), map(last, known), 1, 0.85)
  return [p for p in known if last(p) in names][:3]


def _best(scores: Mapping[str, float]) -> list[str]:
  """Up to three names, the best first, whose scores are nearly the best."""
  least = 0.9 * max(scores.values())
  names = sorted(scores, key=lambda name: -scores[name])
  return [name for name in names if scores[name] >= least][:3]


def _likeness(path: str, other: str) -> float:
  """How alike two paths are, from 0 to 1: the lesser of section and name."""
  section, _, name = path.rpartition('.')
  other_section, _, other_name = other.rpartition('.')
  begins = name and other_name.startswith(f'{name}_')
  return min(
    1 if section == other_section else _ratio(section, other_section),
    0.9 if begins else _ratio(name, other_name),
  )


def _ratio(a: str, b: str) -> float:
  return difflib.SequenceMatcher(None, a, b).ratio()


def to_json(config: Any) -> dict[str, Any]:
  """The config as JSON gives it back: tuples are lists."""
  return json.loads(
    config.to_json() if hasattr(config, 'to_json') else json.dumps(config)
  )


def read_json(path: Path | str) -> dict[str, Any]:
  """A JSON file of a run's folder.

  Raises:
    ConfigError: if it holds no whole JSON, as when a disk lost a part of it.
  """
  try:
    return json.loads(Path(path).read_text())
  except ValueError as error:
    raise ConfigError(
      f"{path} is damaged ({error}); move it away, and the run's command "
      'writes it again'
    ) from error


def from_json(path: Path | str) -> ml_collections.ConfigDict:
  """The config of a run's folder."""
  return ml_collections.ConfigDict(tuples(read_json(path)))


def differences(
  old: Mapping[str, Any], new: Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
  """Changed fields with which a run can't resume: path -> (old, new).

  Args:
    old: `to_json` of the config that the run began with.
    new: `to_json` of the config that it would resume with.
  """
  # Imported here: settings are checked before models take time to import.
  from mmjax.config import components

  known = components.of(new)
  numerics_neutral_settings = known.numerics_neutral_settings()
  old, new = leaves(old), leaves(new)
  out = {}
  for path in sorted(old.keys() | new.keys()):
    section, _, name = path.partition('.')
    field = mixture.find(path) or schema.SECTIONS.get(section, {}).get(
      name.split('.')[0]
    )
    if field is not None and field.resumable:
      continue
    is_open = name and section not in schema.SECTIONS
    if is_open and name.split('.')[-1] in numerics_neutral_settings:
      continue
    if section == 'tasks' and known.is_for_evaluation(*name.split('.')[:2]):
      continue
    before, after = old.get(path, _default(field)), new.get(path)
    if before != after:
      out[path] = before, after
  return out


def _default(field: fields.Field | None) -> Any:
  """What a run began with whose config.json is older than the field."""
  return None if field is None else json.loads(json.dumps(field.default))


def _wrong(path: str, field: fields.Field, value: Any) -> list[str]:
  if field.accepts(value):
    return []
  if hasattr(value, 'to_dict'):
    value = value.to_dict()
  return [f'{path}={value!r} is not legal: {field.explain(value)}']


def _not_plain(path: str, value: Any) -> list[str]:
  if isinstance(value, ml_collections.ConfigDict):
    return [
      error
      for name, child in value.items()
      for error in _not_plain(f'{path}.{name}', child)
    ]
  return _wrong(path, fields.Field('plain', None, ''), value)


def _together(config: Any) -> list[str]:
  """Faults of fields that are legal alone, but not together."""
  return [
    *_batch_faults(config),
    *_schedule_faults(config),
    *_metric_faults(config),
    *_image_faults(config.data),
  ]


def _batch_faults(config: Any) -> list[str]:
  train, errors = config.train, []
  if rest := train.batch_size % train.accumulate:
    less = train.batch_size - rest
    more = less + train.accumulate
    errors.append(
      f'train.batch_size={train.batch_size} is not divisible by '
      f'train.accumulate={train.accumulate}; use train.batch_size='
      + (f'{less} or {more}' if less else str(more))
    )
  split = [
    f'mesh.{axis}={config.mesh[axis]}'
    for axis in ('fsdp', 'tensor', 'sequence')
    if config.mesh[axis] != 1
  ]
  if config.mesh.style == 'pmap' and split:
    errors.append(
      "mesh.style='pmap' has the whole model on every device, but "
      f"{', '.join(split)}; set these to 1, or use mesh.style='pjit'"
    )
  return errors + [
    f'mesh.{axis}=0 holds no device; use 1, or -1 for all remaining ones'
    for axis, size in config.mesh.items()
    if size == 0
  ]


def _schedule_faults(config: Any) -> list[str]:
  steps, errors = config.train.steps, []
  warmup = config.optimizer.warmup_steps
  if config.optimizer.schedule in ('cosine', 'linear') and warmup >= steps:
    errors.append(
      f'optimizer.warmup_steps={warmup} leaves no step of train.steps={steps} '
      'to decay in; set it lower than that, or to 0'
    )
  if config.train.ema_decay == 1:
    errors.append('train.ema_decay=1 never moves the EMA; use 0.999')
  return errors


def _metric_faults(config: Any) -> list[str]:
  """Of what is measured, and of where it is written."""
  data, train, errors = config.data, config.train, []
  eval_splits = mixture.values(data, 'eval_split')
  extra_splits = [n for v in mixture.values(data, 'extra_splits') for n in v]
  if train.wandb_project and importlib.util.find_spec('wandb') is None:
    errors.append(
      f'train.wandb_project={train.wandb_project!r} needs the package wandb: '
      "pip install 'mmjax[wandb]', or leave the field empty"
    )
  if not any(eval_splits):
    needs = (
      ('train.eval_every', train.eval_every, 0),
      ('train.keep_best', train.keep_best, ''),
      ('data.eval_where', data.eval_where, None),
    )
    errors += [
      f"{name}={value!r} needs data.eval_split, which is ''; name a split, or "
      f'set {name} to {nothing!r}'
      for name, value, nothing in needs
      if value
    ]
  reserved = {'val', 'test'} & set(extra_splits)
  if reserved:
    errors.append(
      f'data.extra_splits={tuple(extra_splits)!r} has {sorted(reserved)}, '
      'which are the names of data.eval_split and data.test_split; set those'
    )
  if train.keep_best and not train.keep_best.startswith('val/'):
    errors.append(
      f'train.keep_best={train.keep_best!r} is not a validation metric, such '
      "as 'val/vqa/accuracy'"
    )
  return errors


def _mixture_faults(data: Any) -> list[str]:
  """Of the sources of a mixture, each alone and together."""
  if data.mixture is None:
    return []
  errors = mixture.faults(data)
  for source, section in data.mixture.items():
    if not hasattr(section, 'items'):
      continue
    for name, value in section.items():
      path = f'data.mixture.{source}.{name}'
      if name in schema.SOURCE:
        errors += _wrong(path, schema.SOURCE[name], value)
      else:
        known = [f'data.mixture.{source}.{n}' for n in schema.SOURCE]
        errors.append(unknown(path, known))
  return errors


def _image_faults(data: Any) -> list[str]:
  errors = [
    f'data.{name}={data[name]!r} is not legal: three numbers'
    for name in ('mean', 'std')
    if len(data[name]) != 3
  ]
  if min(data.std, default=1) <= 0:
    errors.append(
      f'data.std={data.std!r} is not legal: images are divided by it, so its '
      'numbers are more than 0'
    )
  return errors


def leaves(tree: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
  """Path -> value of each field of a config's data."""
  out = {}
  for name, value in tree.items():
    if isinstance(value, Mapping):
      out |= leaves(value, f'{prefix}{name}.')
    else:
      out[prefix + name] = value
  return out


def tuples(value: Any) -> Any:
  """The data of a config that JSON gave back: its lists are tuples."""
  if isinstance(value, list):
    return tuple(tuples(v) for v in value)
  if isinstance(value, dict):
    return {name: tuples(v) for name, v in value.items()}
  return value
