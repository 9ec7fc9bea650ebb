"""Loads and saves trained models: Hugging Face folders and runs of mmjax."""

import typing
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from mmjax import pretrained
from mmjax.errors import ConfigError
from mmjax.pretrained import hub

if typing.TYPE_CHECKING:
  from mmjax.runs import rebuild

Model = typing.Union[pretrained.Pretrained, 'rebuild.Run']


def load(
  source: Path | str,
  *,
  dtype: Any = None,
  param_dtype: Any = jnp.float32,
  mesh: jax.sharding.Mesh | None = None,
  experiment: Any = None,
  step: int | str | None = None,
) -> Model:
  """Loads a trained model.

  Args:
    source: a Hugging Face folder, a model name on its hub (with the extra
      `hub`), a GGUF file (with the extra `gguf`), a folder of PEFT's with an
      adapter (which names its model), or the folder of an mmjax run.
    dtype: dtype of the computation, for a published model (default: float32)
      and for a run that started from a whole one (default: the run's). Other
      runs keep theirs.
    param_dtype: dtype of the parameters; other runs keep theirs.
    mesh: result of `mmjax.parallel.mesh.build`, to shard a published model's
      parameters over.
    experiment: what has a run's own classes: an experiment file's path or
      module, or a `Builder`; None for the file that the run was trained
      with, which its folder records.
    step: checkpoint of a run: its step, or 'best' by `train.keep_best`; None
      for the newest.

  Returns:
    A `Run`, or a published model whose class has the methods of its family,
    such as `encode_text` or `generate`. Both have `module` and `params` for use
    in other code. A run that started from a whole published model (`init_from`)
    is returned as a published model, so that it can be saved;
    `mmjax.runs.rebuild.load` returns it as a run, whose prompts are those of
    its training.

  Raises:
    ConfigError: if the folder or name does not exist, the model is broken or of
      a kind that mmjax doesn't know, a download needs the extra `hub`, a run's
      experiment file is needed and not found, it has no such checkpoint, or
      either is given for a published model.
  """
  folder = hub.find(source)
  if hub.is_run(folder):
    # Published models need no training code.
    from mmjax.runs import init_from, rebuild

    run = rebuild.load(folder, experiment=experiment, step=step)
    model = init_from.to_pretrained(
      run, folder, dtype=dtype, param_dtype=param_dtype
    )
    return model or run
  hub.refuse_run_settings(source, experiment=experiment, step=step)
  return pretrained.load(
    folder,
    dtype=jnp.float32 if dtype is None else dtype,
    param_dtype=param_dtype,
    mesh=mesh,
  )


def save(model: Model, folder: Path | str) -> None:
  """Writes a Hugging Face folder, which transformers and `load` can read.

  Args:
    model: result of `load`; adapters are merged into its weights.
    folder: folder to write; it is created if it is missing.

  Raises:
    ConfigError: for a run that did not start from a published model, since
      transformers has no class for it.
  """
  pretrained.save(_check_published(model), folder)


def save_adapter(model: Model, folder: Path | str) -> None:
  """Writes a model's adapters alone, as a folder that PEFT and `load` can read.

  Args:
    model: result of `load`, of a run with `adapter.layers` or of such a folder.
    folder: folder to write; it is created if it is missing.

  Raises:
    ConfigError: for a run that did not start from a whole published model, a
      model without adapters, or one of which PEFT has no place for what was
      trained.
  """
  pretrained.save_adapter(_check_published(model), folder)


def _check_published(model: Model) -> pretrained.Pretrained:
  """Refuses a run that has no class in transformers."""
  if not isinstance(model, pretrained.Pretrained):
    raise ConfigError(
      f'the run trained its own {type(model.module).__name__}, for which '
      'transformers has no class; only runs that started from a whole '
      'published model (--config.init_from=FOLDER) can be saved as one'
    )
  return model
