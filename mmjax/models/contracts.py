"""Refuses modules of the user's that don't keep to the interface of their part.

Without this, an encoder that returns an array, say, fails deep in a model that
asks it for `pooled`. An error inside a module keeps its traceback, and a value
that a module refuses is named with its place in the model.
"""

import contextlib
import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn

from mmjax import encoders
from mmjax.errors import ConfigError
from mmjax.types import TokenVectors

PAGE = 'docs/bring_your_own.md'
_SECTION = f'({PAGE}#parts-and-a-model)'
_ENCODERS = {*encoders.ENCODERS, 'vision', 'question', 'audio', 'encoder'}


class ContractError(ConfigError):
  """A part of the user's that is called, or returns, otherwise than others."""


@contextlib.contextmanager
def checking(model: nn.Module) -> Iterator[None]:
  """Around tracing a model: checks its own parts, and what they return.

  Args:
    model: the model, unbound.

  Raises:
    ContractError: naming the part's place in the config, its class, what is
      wrong, and what is expected.
    ConfigError: that of a module, with the module's place in the model.
  """
  places = {type(model): ('model', 'model')}
  for place, kind, module in _list_parts(model, 'model'):
    places.setdefault(type(module), (place, kind))
  own = {cls: where for cls, where in places.items() if is_custom(cls)}
  for cls, (place, kind) in own.items():
    _check_call(cls, place, kind)

  def check(call, args, kwargs, context):
    result = _call_named(call, args, kwargs, context)
    cls = type(context.module)
    if cls in own and context.method_name == '__call__':
      _check_result(result, cls, *own[cls])
    return result

  with nn.intercept_methods(check):
    yield


def _call_named(call, args, kwargs, context):
  """Calls a method; what it refuses gets the innermost module's place."""
  try:
    return call(*args, **kwargs)
  except ConfigError as error:
    place = '/'.join(context.module.path)
    if place and 'model' not in str(error):
      raise type(error)(f'{error} (in {place} of the model)') from error
    raise


def is_custom(cls: type) -> bool:
  """Whether a class is the user's, and not one of mmjax."""
  return not cls.__module__.startswith('mmjax.')


def describe(value: Any) -> str:
  """What a part has returned, for a message.

  >>> describe((1.5, {}))
  'a tuple (float, dict)'
  """
  if hasattr(value, 'dtype') and hasattr(value, 'shape'):
    return f'an array {value.dtype} {list(value.shape)}'
  kind = type(value).__name__
  if type(value) is tuple:
    return f'a tuple ({", ".join(type(v).__name__ for v in value)})'
  return 'None' if value is None else f'a value of the type {kind}'


def check_arguments(
  function: Any, where: str, call: str, args: int, names: tuple[str, ...]
) -> None:
  """Refuses a function that can't be called as its interface says.

  Args:
    function: the function; `args` count its self, if it has one.
    where: its place and class, for the message.
    call: how it is called, for the message.
    args: number of positional arguments.
    names: names of the further ones.

  Raises:
    ContractError: if it can't.
  """
  signature = inspect.signature(function)
  bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
  shown = inspect.Signature(bare)
  try:
    signature.bind(*[None] * args, **dict.fromkeys(names))
  except TypeError as error:
    raise ContractError(
      f'{where}, which has the arguments {shown}, cannot be called as '
      f'{call}: {error}'
    ) from error


def _list_parts(
  module: nn.Module, place: str
) -> Iterator[tuple[str, str, nn.Module]]:
  """Yields place, kind and module of what encodes or fuses in a model."""
  for field in dataclasses.fields(module):
    value = getattr(module, field.name, None)
    if value is field.default:
      continue  # Not of the config.
    inside = f'{place}.{field.name}'
    named = {inside: value}
    if field.name == 'encoders' and isinstance(value, Mapping):
      named = {f'{inside}.{name}': part for name, part in value.items()}
    elif field.name == 'encoder' and isinstance(module, encoders.FromSamples):
      named = {place: value}
    elif field.name not in (*_ENCODERS, 'fusion'):
      continue
    kind = 'fusion' if field.name == 'fusion' else 'encoder'
    for where, part in named.items():
      if isinstance(part, nn.Module):
        yield where, kind, part
        yield from _list_parts(part, where)


def _check_call(cls: type, place: str, kind: str) -> None:
  """Refuses a class whose `__call__` takes other arguments."""
  call, args = {
    'model': ('model(batch, train=...)', 2),
    'fusion': ('fusion({name: TokenVectors}, train=...)', 2),
    'encoder': ('encoder(inputs, mask, train=...)', 3),
  }[kind]
  where = f'{place}: {cls.__name__}.__call__'
  check_arguments(cls.__call__, where, f'{call} {_SECTION}', args, ('train',))


def _check_result(result: Any, cls: type, place: str, kind: str) -> None:
  """Refuses what a model, encoder or fusion must not return."""
  if kind == 'model':
    wanted = 'a model returns a dict of the outputs that its objectives read'
    is_right = isinstance(result, Mapping)
  else:
    wanted = (
      f'{"a" if kind == "fusion" else "an"} {kind} returns '
      'mmjax.types.TokenVectors(values [B, N, D], mask [B, N], pooled [B, D])'
    )
    is_right = isinstance(result, TokenVectors)
  got = describe(result)
  if isinstance(result, TokenVectors):
    arrays = result.values, result.mask, result.pooled
    values, mask, pooled = (tuple(x.shape) for x in arrays)
    is_right &= mask == values[:-1] and pooled[:-1] == values[:-2]
    got = f'TokenVectors of the shapes {values}, {mask}, {pooled}'
  if not is_right:
    raise ContractError(
      f'{place}: {cls.__name__} returned {got}, but {wanted} {_SECTION}'
    )
