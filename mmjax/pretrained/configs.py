"""Reading a Hugging Face config.json: every value is taken or refused."""

from collections.abc import Mapping
from typing import Any

# Their names of activations, and ours (`mmjax.nn.mlp.ACTIVATIONS`).
ACTIVATIONS = {
  'gelu': 'gelu',
  'gelu_new': 'gelu_tanh',
  'gelu_pytorch_tanh': 'gelu_tanh',
  'quick_gelu': 'quick_gelu',
  'relu': 'relu',
  'silu': 'silu',
  'swish': 'silu',
}


def section(
  config: Mapping[str, Any], name: str, defaults: Mapping[str, Any]
) -> dict[str, Any]:
  """One part of a config, with what transformers takes where it is silent.

  Args:
    config: all of config.json.
    name: the part's key; '' for the whole.
    defaults: values of the fields that are read.

  Raises:
    ValueError: if a field has no value of its default's kind.
  """
  given = (config.get(name) or {}) if name else config
  out = {}
  for field, default in defaults.items():
    value = given.get(field, default)
    kind = (int, float) if isinstance(default, float) else type(default)
    if not isinstance(value, kind) or isinstance(value, bool) != isinstance(
      default, bool
    ):
      where = f'{name}.{field}' if name else field
      raise ValueError(
        f'config.json: {where} is {value!r}; mmjax reads only '
        f'{type(default).__name__} here'
      )
    out[field] = value
  return out


def activation(name: str, field: str = 'hidden_act') -> str:
  """Our name of an activation, theirs being the value of a field.

  Raises:
    ValueError: if it is unknown.
  """
  if name not in ACTIVATIONS:
    raise ValueError(
      f'config.json: {field} is {name!r}; mmjax knows {sorted(ACTIVATIONS)}'
    )
  return ACTIVATIONS[name]
