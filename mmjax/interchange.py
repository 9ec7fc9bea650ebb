"""Models from folders, and back: Hugging Face's, and mmjax's own runs."""

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
) -> Model:
  """Opens a trained model.

  Args:
    source: a Hugging Face folder, a name on its hub (with the extra `hub`), or
      the folder of an mmjax run.
    dtype: of a published model's computation, also of a run's that began from
      a whole one; by default float32, and the run's own. Other runs keep
      theirs.
    param_dtype: of its parameters; other runs keep theirs.
    mesh: of `mmjax.parallel.mesh.build`, to lay a published model's parameters
      out on.

  Returns:
    The module, its parameters and what prepares inputs. A run that began from a
    whole published model (`init_from`) is given as such, so that it can be
    saved; `mmjax.runs.rebuild.load` gives it as a run.

  Raises:
    ConfigError: if there is no such folder or name, it is broken or not a model
      that mmjax knows, or a download needs the extra `hub`.
  """
  folder = hub.find(source)
  if hub.is_run(folder):
    # Published models need no training code.
    from mmjax.runs import init_from, rebuild

    run = rebuild.load(folder)
    given = init_from.published(
      run, folder, dtype=dtype, param_dtype=param_dtype
    )
    return given or run
  return pretrained.load(
    folder,
    dtype=jnp.float32 if dtype is None else dtype,
    param_dtype=param_dtype,
    mesh=mesh,
  )


def save(model: Model, folder: Path | str) -> None:
  """Writes a Hugging Face folder, which transformers and `load` open.

  Args:
    model: of `load`.
    folder: is made if it is not there.

  Raises:
    ConfigError: for a run that did not begin from a published model, so that no
      class of transformers is made for it.
  """
  if not isinstance(model, pretrained.Pretrained):
    raise ConfigError(
      f'the run trained its own {type(model.module).__name__}, for which '
      'transformers has no class; only runs that began from a whole published '
      'model (--config.init_from=FOLDER) can be saved as one'
    )
  pretrained.save(model, folder)
