"""Trained models that objectives learn from, and that are not trained."""

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmjax import evaluators, models, pretrained
from mmjax import tasks as tasks_lib
from mmjax.config import settings as settings_lib
from mmjax.data import preprocess as preprocessing
from mmjax.data import tokenizers
from mmjax.data.features import Feature
from mmjax.errors import ConfigError, choose
from mmjax.nn import adapters
from mmjax.ops import tree_paths
from mmjax.pretrained import hub
from mmjax.runs import checkpoints, rebuild, weight_source
from mmjax.training.frozen import FrozenModel
from mmjax.types import FEATURE_ENDINGS, Batch, Outputs, Params

# In a run's folder: checksums of its teachers' parameters, by the task's name.
FILE = 'teachers.json'
# What the arrays of published models depend on: by the field, the setting of
# `data` that comes with the model, and that of the feature.
_PUBLISHED = {
  'image': {
    'image_size': 'size',
    'resize': 'resize',
    'mean': 'mean',
    'std': 'std',
  },
  'text': {'text_length': 'length'},
}


@dataclasses.dataclass(frozen=True)
class _Opened:
  """A trained model, and what its inputs have to be.

  Attributes:
    module: its module.
    inputs: settings by feature that it reads; what they don't name is not
      checked.
    tokenizer: tokenizer of its texts; None if it reads none.
    size: number of its outputs.
    read: function from shapes to its parameters of these paths.
  """

  module: nn.Module
  inputs: Mapping[str, Mapping[str, Any]]
  tokenizer: tokenizers.Tokenizer | None
  size: int
  read: Callable[[Params], Params]


def load(
  name: str,
  teacher: tasks_lib.TeacherSpec,
  preprocessor: preprocessing.Preprocessor,
  init_batch: Batch,
) -> FrozenModel:
  """Reads a task's teacher; only the parameters that its output needs.

  Args:
    name: the task's name in the config.
    teacher: what the task says of its teacher.
    preprocessor: the run's preprocessor.
    init_batch: one or two examples of the run, for shapes.

  Raises:
    ConfigError: if the teacher isn't there, hasn't the output, or reads other
      arrays than the run makes.
  """
  path = f'tasks.{name}.{teacher.setting}={teacher.folder!r}'
  try:
    folder = hub.find(teacher.folder)
    if hub.is_run(folder):
      opened = _open_run(folder, teacher, preprocessor)
    else:
      opened = _open_published(folder, teacher, preprocessor)
  except ConfigError as error:
    reason = str(error).removeprefix('init_from: ')
    raise ConfigError(f'{path}: {reason}') from error
  _check_inputs(name, path, teacher, opened, preprocessor)
  if teacher.size and opened.size != teacher.size:
    raise ConfigError(
      f'{path} has {opened.size} outputs for {teacher.argument!r}, but '
      f"tasks.{name} learns {teacher.size}; with kind='features' set "
      f'tasks.{name}.width={opened.size}'
    )
  boxed = jax.eval_shape(
    functools.partial(_init, opened.module, teacher),
    jax.random.key(0),
    {key: jnp.asarray(value) for key, value in init_batch.items()},
  )
  params = opened.read(nn.meta.unbox(boxed))
  return FrozenModel(
    apply=functools.partial(_apply, opened.module, teacher),
    # In the host's memory: a copy of each device's part goes to the device.
    params=jax.tree.map(np.asarray, params),
    boxed=boxed,
  )


def load_judges(
  tasks: Mapping[str, tasks_lib.Task],
  preprocessor: preprocessing.Preprocessor,
) -> dict[tuple[str, str], evaluators.Judge]:
  """Reads the models in whose spaces evaluators compare, by folder and feature.

  Args:
    tasks: tasks that are evaluated, by name.
    preprocessor: the run's preprocessor.

  Raises:
    ConfigError: as `load` does.
  """
  found = {}
  for name, task in tasks.items():
    judge = task.find_judge(preprocessor.features)
    if judge is None:
      continue
    (feature,) = judge.inputs.values()
    if (judge.folder, feature) in found:
      continue
    shape = (1, *preprocessor[feature].shape)
    example = {feature: np.zeros(shape, np.float32)}
    example |= {f'{feature}_mask': np.ones(1, bool)}
    frozen = load(name, judge, preprocessor, example)
    found[judge.folder, feature] = evaluators.Judge(
      functools.partial(_get_output, frozen.apply, judge.output_key),
      frozen.params,
      _find_text_encoder(judge.folder),
    )
  return found


def _find_text_encoder(
  folder: str,
) -> Callable[[Sequence[str]], Any] | None:
  """What encodes texts in a judge's space, read by its own tokenizer."""
  found = hub.find(folder)
  open_it = rebuild.load if hub.is_run(found) else pretrained.load
  return getattr(open_it(found), 'encode_text', None)


def _get_output(
  apply: Callable[[Params, Batch], Outputs],
  name: str,
  params: Params,
  batch: Batch,
) -> Any:
  return apply(params, batch)[name]


def check_same(frozen_models: Mapping[str, FrozenModel], workdir: Path) -> None:
  """Refuses to resume a run with other teachers than it began with.

  Args:
    frozen_models: the teachers, by the task's name.
    workdir: the run's folder; one without a checkpoint may have any teachers.

  Raises:
    ConfigError: if the parameters of one are not those of the first start.
  """
  path = workdir / FILE
  if not path.exists() or not checkpoints.steps_in(workdir):
    return
  before = settings_lib.read_json(path)
  for name, teacher in frozen_models.items():
    if before.get(name) != tree_paths.checksum(teacher.params):
      raise ConfigError(
        f"tasks.{name}: its teacher's parameters are not those with which the "
        f'run in {workdir} began; put the old ones back, or train in '
        f'another --workdir. To resume with the new ones, remove {path}'
      )


def files(
  frozen_models: Mapping[str, FrozenModel],
) -> dict[str, Callable[[Path], None]]:
  """What a run's folder keeps of its teachers, for `check_same`."""
  if not frozen_models:
    return {}
  content = {
    name: tree_paths.checksum(model.params)
    for name, model in frozen_models.items()
  }
  return {
    FILE: functools.partial(Path.write_text, data=json.dumps(content, indent=2))
  }


def _select(teacher: tasks_lib.TeacherSpec, batch: Batch) -> Batch:
  """What the teacher reads, by its own names."""
  return {
    f'{theirs}{ending}': batch[f'{ours}{ending}']
    for theirs, ours in teacher.inputs.items()
    for ending in FEATURE_ENDINGS
    if f'{ours}{ending}' in batch
  }


def _init(
  module: nn.Module, teacher: tasks_lib.TeacherSpec, key: Any, batch: Batch
) -> Params:
  inputs = _select(teacher, batch)
  return module.init(key, inputs, teacher.argument, method=teacher.method)[
    'params'
  ]


def _apply(
  module: nn.Module,
  teacher: tasks_lib.TeacherSpec,
  params: Params,
  batch: Batch,
) -> Outputs:
  out = module.apply(
    {'params': params},
    _select(teacher, batch),
    teacher.argument,
    method=teacher.method,
  )
  return {teacher.output_key: out}


def _check_inputs(
  name: str,
  path: str,
  teacher: tasks_lib.TeacherSpec,
  opened: _Opened,
  preprocessor: preprocessing.Preprocessor,
) -> None:
  """Refuses a teacher whose inputs the run makes otherwise, or not at all."""
  setting = f'tasks.{name}.teacher_inputs'
  is_judge = teacher.setting == 'judge'
  if set(teacher.inputs) != set(opened.inputs):
    raise ConfigError(
      f'{path} reads {", ".join(opened.inputs)} for {teacher.argument!r}, but '
      f'{setting} gives {", ".join(teacher.inputs)}; give exactly those'
    )
  for theirs, ours in teacher.inputs.items():
    feature = choose(ours, preprocessor.features, f'{setting}.{theirs}')
    made = feature.describe_arrays()
    for key, wanted in opened.inputs[theirs].items():
      if not _are_equal(made.get(key), wanted):
        raise ConfigError(
          f'{path} was trained with {key}={wanted!r} of {theirs!r}, but '
          f'data.features.{ours} has {key}={made.get(key)!r}; make a second '
          'feature of the same field as the teacher reads it, as in '
          f'data.features.teacher_{theirs}={_describe(feature, opened, theirs)}'
          ', and set '
          + (
            f'tasks.{name}.judge_feature={f"teacher_{theirs}"!r}'
            if is_judge
            else f'{setting}={{{theirs!r}: {f"teacher_{theirs}"!r}}}'
          )
        )
    if feature.uses_tokenizer and opened.tokenizer != preprocessor.tokenizer:
      raise ConfigError(
        f'{path} reads {theirs!r} by another tokenizer than this run; set '
        "data.tokenizer to the teacher's tokenizer.json"
      )


def _describe(feature: Feature, opened: _Opened, theirs: str) -> str:
  """The feature that the teacher reads, as a config has it."""
  settings = {'kind': feature.kind, 'field': feature.field_name}
  settings |= opened.inputs[theirs]
  listed = ', '.join(f'{key}={value!r}' for key, value in settings.items())
  return f'dict({listed})'


def _are_equal(one: Any, other: Any) -> bool:
  """Whether two settings mean the same; a size may be one number or two."""
  try:
    return np.allclose(np.asarray(one, float), np.asarray(other, float))
  except (TypeError, ValueError):
    return one == other


def _open_run(
  folder: Path,
  teacher: tasks_lib.TeacherSpec,
  preprocessor: preprocessing.Preprocessor,
) -> _Opened:
  """Opens a run that classifies, or embeds."""
  run = rebuild.load(folder)
  target = teacher.argument
  if teacher.method == 'apply_head':
    if all(task.classifies != target for task in run.tasks.values()):
      raise ConfigError(f'the run does not classify {target!r}')
    theirs, ours = (p[target].classes for p in (run.preprocessor, preprocessor))
    if theirs != ours:
      raise ConfigError(
        f'the run has the classes {", ".join(theirs[:5])}, ... of {target!r}, '
        f'this one {", ".join(ours[:5])}, ...; set '
        f'data.features.{target}.classes to those of the teacher, '
        f'{theirs!r:.200}'
      )
    inputs, size = run.inputs, len(theirs)
  else:
    if not any(task.embeds for task in run.tasks.values()):
      raise ConfigError(
        'the run has no embeddings: it trained neither contrastive nor align '
        "with score='cosine'; use a run that did"
      )
    inputs = models.find_encoder_inputs(run.config.model).get(target, (target,))
    size = run.module.embed_dim
    if not size and isinstance(run.module, models.VisionLanguageEmbedder):
      size = run.module.decoder.width  # It has no projection.
  return _Opened(
    run.module,
    {name: run.preprocessor[name].describe_arrays() for name in inputs},
    run.tokenizer,
    size,
    functools.partial(tree_paths.select_like, adapters.merge(run.params)),
  )


def _open_published(
  folder: Path,
  teacher: tasks_lib.TeacherSpec,
  preprocessor: preprocessing.Preprocessor,
) -> _Opened:
  """Opens a published dual encoder."""
  source = weight_source.find(str(folder))
  if teacher.method != 'embed' or not isinstance(
    source.module, models.DualEncoder
  ):
    raise ConfigError(
      f'a published {type(source.module).__name__} is not a teacher of '
      f'{teacher.argument!r}: of published models, only those of images and '
      "texts are, such as CLIP's, with kind='features'"
    )
  field = teacher.argument
  names = choose(field, _PUBLISHED, 'the target')
  ours = teacher.inputs.get(field)
  feature = preprocessor.features.get(ours)
  given = {'text_length': getattr(feature, 'length', 0)}
  settings = dict(source.data_settings([field], given))
  tokenizer = None
  if 'tokenizer' in settings:
    tokenizer = tokenizers.Tokenizer.load(
      settings['tokenizer'],
      bos=settings.get('bos'),
      lower_case=settings.get('lower_case', False),
    )
  return _Opened(
    source.module,
    {
      field: {
        name: settings[key] for key, name in names.items() if key in settings
      }
    },
    tokenizer,
    source.module.embed_dim,
    source.read,
  )
