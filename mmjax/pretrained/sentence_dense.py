"""Dense steps of sentence encoders: a linear layer behind the pooling."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from mmjax.errors import ConfigError
from mmjax.nn import mlp
from mmjax.pretrained import configs, sections, sentence_steps
from mmjax.types import Array

SECTION = sections.Section(
  read=('activation_function', 'bias', 'in_features', 'out_features'),
  only={
    'module_input_name': 'sentence_embedding',
    'module_output_name': 'sentence_embedding',
    'use_residual': False,
  },
)
# Class of torch, without its module -> our name.
_ACTIVATIONS = {
  'GELU': 'gelu',
  'Identity': 'identity',
  'ReLU': 'relu',
  'SiLU': 'silu',
  'Tanh': 'tanh',
}
_TORCH = 'torch.nn.modules.'
_WEIGHT, _BIAS = 'linear.weight', 'linear.bias'


@dataclasses.dataclass(frozen=True)
class Dense:
  """A linear layer and its activation.

  Attributes:
    weight: [in, out].
    bias: [out]; zeros where the layer has none.
    activation: function of the result.
  """

  weight: Array
  bias: Array
  activation: Callable[[Array], Array]

  def __call__(self, vectors: Array) -> Array:
    """Maps vectors [B, in] to [B, out]."""
    return self.activation(vectors @ self.weight + self.bias[None])


def read(files: Mapping[str, bytes], step: sentence_steps.Step) -> Dense:
  """Reads a dense step.

  Args:
    files: small files of a model's folder, by name.
    step: the step.

  Raises:
    ConfigError: if a file is missing or broken, or has a setting that mmjax
      does not know.
  """
  for name in (step.config, step.weights):
    if name not in files:
      raise ConfigError(
        f"the model's folder had no {name}, which {sentence_steps.FILE} names; "
        'put the published one there and load again'
      )
  config = configs.parse(files[step.config], step.config)
  sections.check_file(config, SECTION, step.config)
  shape = config.get('out_features'), config.get('in_features')
  shapes = {_WEIGHT: shape}
  if config.get('bias', True):
    shapes[_BIAS] = shape[:1]
  tensors = _parse(files[step.weights], step.weights)
  found = {name: tensor.shape for name, tensor in tensors.items()}
  if found != shapes:
    raise ConfigError(
      f'{step.weights} has {found}, but {step.config} needs {shapes}; take '
      'both files from one model'
    )
  bias = tensors.get(_BIAS, np.zeros(shape[:1], np.float32))
  return Dense(
    jnp.asarray(tensors[_WEIGHT].T, jnp.float32),
    jnp.asarray(bias, jnp.float32),
    mlp.activation(_read_activation(config, step.config)),
  )


def _parse(content: bytes, name: str) -> dict[str, np.ndarray]:
  try:
    return safetensors.numpy.load(content)
  except safetensors.SafetensorError as error:
    raise ConfigError(
      f'{name} is broken or cut off ({error}); download it again'
    ) from error


def _read_activation(config: Mapping[str, Any], file: str) -> str:
  given = config.get('activation_function', f'{_TORCH}activation.Tanh')
  name = str(given).rpartition('.')[2]
  if not str(given).startswith(_TORCH) or name not in _ACTIVATIONS:
    raise ConfigError(
      f'{file}: activation_function is {given!r}; mmjax knows '
      f'{", ".join(_ACTIVATIONS)} of torch.nn'
    )
  return _ACTIVATIONS[name]
