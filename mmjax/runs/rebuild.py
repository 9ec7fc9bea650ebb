"""From a run's folder back to its model."""

import dataclasses
import functools
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax

from mmjax import models
from mmjax import tasks as tasks_lib
from mmjax.config import components
from mmjax.data import chat_tokenizers, tokenizers
from mmjax.data import preprocess as preprocessing
from mmjax.errors import ConfigError, suggest_folder
from mmjax.models import from_config
from mmjax.nn import quantized
from mmjax.pretrained import hub
from mmjax.runs import checkpoints, experiment_record
from mmjax.types import Array, Batch, Params


class NotTrainedError(ConfigError, AttributeError):
  """A method of a task that the model was not trained for."""


@dataclasses.dataclass(frozen=True, repr=False)
class Run:
  """A trained model with all that belongs to it.

  `module` and `params` are all that JAX code needs. The run also has the
  methods of its tasks (`mmjax.tasks`), which take values of fields:
  `encode_image` and `encode_text`, `caption`, `answer`, `embed`, `classify`,
  `regress`, or those of an experiment's own task. An image is a file's path, a
  Pillow image or uint8 [H, W, 3]; a sound the path of a file or floats [N].

  Attributes:
    config: what the run was started with.
    module: a Linen module.
    params: its parameters; the EMA, where the run kept one.
    preprocessor: what makes arrays of records and of values that people pass.
    tasks: what the model was trained for, by name.
    step: step of the checkpoint that the parameters are from.
    is_ema: whether they are the EMA.
  """

  config: Any
  module: nn.Module
  params: Params
  preprocessor: preprocessing.Preprocessor
  tasks: Mapping[str, tasks_lib.Task]
  step: int
  is_ema: bool

  def __repr__(self) -> str:
    whole = quantized.as_plain(self.params)
    number = sum(leaf.size for leaf in jax.tree.leaves(whole))
    return (
      f'<run of {self.config.experiment or "mmjax"}, step {self.step}: '
      f'{type(self.module).__name__}, '
      f'{number:,} parameters>'
    )

  def __getattr__(self, name: str) -> Callable[..., Any]:
    """A method of one of the run's tasks, the first that has it.

    `Task.methods` of each task in `mmjax.tasks` lists them: `embed`, `caption`,
    `answer`, `classify` and others; `dir(run)` shows those of this run.

    Raises:
      NotTrainedError: if only other tasks have it; it says what the model can
        do.
    """
    # A copy that is being made has no fields yet.
    tasks = self.__dict__.get('tasks', {})
    for task in tasks.values():
      if name in task.methods:
        return types.MethodType(task.methods[name], self)
    for task in tasks_lib.TASKS.values():
      if tasks and name in task.methods:
        raise NotTrainedError(self.unable(task.ability))
    raise AttributeError(f'{type(self).__name__} has no attribute {name!r}')

  def __dir__(self) -> list[str]:
    methods = {name for task in self.tasks.values() for name in task.methods}
    return sorted({*super().__dir__(), *methods})

  def unable(self, what: str) -> str:
    """The message that the model was not trained to do something.

    Args:
      what: a task's `ability`.
    """
    able = dict.fromkeys(task.ability for task in self.tasks.values())
    return f'the model cannot {what}; it can {" and ".join(able)}'

  @property
  def tokenizer(self) -> tokenizers.Tokenizer:
    """Texts to ids and back."""
    return self.preprocessor.tokenizer

  def predict(
    self, make: Callable[..., Any], batch: Batch, **settings: Any
  ) -> Array:
    """Makes a predict function, compiles it at its first call, and calls it.

    Args:
      make: function of `mmjax.models.predict`, (module, ...) -> (params,
        batch) -> array.
      batch: arrays by the keys of `mmjax.types`.
      **settings: further arguments of `make`.
    """
    return self._compiled(make, **settings)(self.params, batch)

  def decode(self, ids: Array) -> list[str]:
    """Texts of token ids [B, T]."""
    return [self.tokenizer.decode(row) for row in ids]

  def prepare(self, *absent: str, **values: Any) -> Batch:
    """Arrays of values by feature; see `mmjax.data.preprocess.Preprocessor`."""
    return self.preprocessor.prepare(*absent, **values)

  @property
  def inputs(self) -> tuple[str, ...]:
    """The features that `model.encoders` read; () for models with fixed inputs.

    Those, such as `dual_encoder`, read image, text or question.
    """
    return models.list_encoder_inputs(self.config.model)

  @functools.cached_property
  def _compiled(self) -> Callable[..., Callable[..., Array]]:
    @functools.lru_cache
    def compiled(make: Callable[..., Any], **settings: Any):
      return jax.jit(make(self.module, **settings))

    return compiled


def load(
  workdir: Path | str,
  *,
  experiment: Any = None,
  step: int | str | None = None,
  check: Callable[[Run], object] | None = None,
) -> Run:
  """Opens a run's folder.

  Where the config names tasks, parts or models of its experiment's own, the
  experiment file runs again: the one that the run was trained with, from
  whatever folder it is opened.

  Args:
    workdir: the folder.
    experiment: what has the run's own classes instead: an experiment file's
      path or module, or a `Builder`; None for the recorded file.
    step: checkpoint, as `mmjax.load` takes it.
    check: called before the parameters are read, with the run without them; it
      may raise, as where the run can't do what is asked for.

  Raises:
    ConfigError: if it isn't a run's folder, lacks the checkpoint, or its
      experiment file is needed and not there.
  """
  workdir = Path(workdir)
  _check_folder(workdir)
  try:
    config = experiment_record.read_config(workdir, experiment)
    known = components.of(config)
    tasks = known.build_tasks(config)
    preprocessor = preprocessing.Preprocessor.load(
      workdir / 'preprocess.json',
      _load_tokenizer(workdir, config),
      known.kind_table,
    )
    module = from_config.build(
      config,
      preprocessor,
      tasks_lib.find_output_spec(tasks, preprocessor.features),
      known.tables,
    )
  except ConfigError as error:
    raise ConfigError(f'{workdir / "config.json"}: {error}') from error
  step = checkpoints.find_step(
    workdir, step, config.train.keep_best, config.train.best_mode
  )
  run = Run(
    config=config,
    module=module,
    params={},
    preprocessor=preprocessor,
    tasks=tasks,
    step=step,
    is_ema=checkpoints.has_ema(workdir, step),
  )
  if check is not None:
    check(run)
  params = checkpoints.load_params(workdir, step=step)
  return dataclasses.replace(run, params=params)


def _check_folder(workdir: Path) -> None:
  """Refuses what is not a run's folder."""
  if not workdir.is_dir():
    raise ConfigError(
      f'there is no folder {workdir}'
      f'{suggest_folder(workdir) or "; give the --workdir of an experiment"}'
    )
  if not (workdir / 'config.json').exists():
    raise ConfigError(
      f'{workdir} is not a run: it has no config.json; give the --workdir of '
      'an experiment'
    )
  if not hub.is_run(workdir):
    raise ConfigError(
      f'{workdir} is not a run: it has no preprocess.json; a published model '
      'is opened with mmjax.load'
    )


def _load_tokenizer(workdir: Path, config: Any) -> tokenizers.Tokenizer | None:
  """The run's tokenizer; None where it has no texts."""
  path = workdir / 'tokenizer.json'
  if not path.exists():
    return None
  return chat_tokenizers.load(path, bos=config.data.bos)
