"""Key tables: which tensor of a published checkpoint is which parameter here.

A table is a list of rules, one for each parameter, and works both ways.
"""

import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from mmjax.errors import ConfigError
from mmjax.ops import tree_paths
from mmjax.pretrained import forms, mismatches
from mmjax.types import Params

LAYER = '{layer}'
_SAME = forms.Same()


class Source(Protocol):
  """A checkpoint's tensors, such as `tensors.Tensors`.

  Attributes:
    names: of all tensors.
  """

  names: frozenset[str]

  def shape(self, name: str) -> tuple[int, ...]:
    """The shape of a tensor, without reading it."""

  def read(self, name: str) -> np.ndarray:
    """One tensor."""

  def stored(self, name: str) -> str:
    """What a tensor is stored as; the same for two names of one."""
    return name


@dataclasses.dataclass(frozen=True)
class Rule:
  """One parameter.

  Attributes:
    ours: its path, 'text/blocks/layers/mlp/up/kernel'.
    theirs: the tensor's name; `LAYER` in it stands for the layer's number,
      and our leading axis is then the layers'. Only rules with `Part` share
      one.
    form: how it lies.
  """

  ours: str
  theirs: str
  form: forms.Form = _SAME


def norm(ours: str, theirs: str, *, bias: bool = True) -> list[Rule]:
  """Rules of a layer normalisation; of one by root mean square without bias."""
  rules = [Rule(f'{ours}/scale', f'{theirs}.weight')]
  if bias:
    rules.append(Rule(f'{ours}/bias', f'{theirs}.bias'))
  return rules


def dense(
  ours: str, theirs: str, *, inputs: int = 1, bias: bool = True
) -> list[Rule]:
  """Rules of a dense layer, into or out of heads too."""
  rules = [Rule(f'{ours}/kernel', f'{theirs}.weight', forms.Linear(inputs))]
  if bias:
    rules.append(Rule(f'{ours}/bias', f'{theirs}.bias', forms.Same(flat=True)))
  return rules


def attention(
  ours: str,
  theirs: str,
  names: Mapping[str, str],
  *,
  bias: bool | Sequence[str] = True,
) -> list[Rule]:
  """Rules of an attention layer.

  Args:
    ours: path of `mmjax.nn.Attention`.
    theirs: their prefix.
    names: their name of each of 'query', 'key', 'value' and 'out'.
    bias: see `mmjax.nn.Attention`.
  """
  return [
    rule
    for name, their in names.items()
    for rule in dense(
      f'{ours}/{name}',
      f'{theirs}.{their}',
      inputs=2 if name == 'out' else 1,
      bias=bias if isinstance(bias, bool) else name in bias,
    )
  ]


def packed(
  ours: str, theirs: str, names: Sequence[str], *, transposed: bool = True
) -> list[Rule]:
  """Rules of dense layers that lie in one, such as an attention's inputs.

  Args:
    ours: what our layers' paths have in common.
    theirs: their one layer.
    names: of our layers, in their order.
    transposed: see `Linear`.
  """
  number, bias = len(names), forms.Same(flat=True)
  weight, axis = forms.Linear(transposed=transposed), 0 if transposed else 1
  rules = []
  for i, name in enumerate(names):
    kernel = forms.Part(i, number, weight, axis)
    rules += [
      Rule(f'{ours}/{name}/kernel', f'{theirs}.weight', kernel),
      Rule(
        f'{ours}/{name}/bias', f'{theirs}.bias', forms.Part(i, number, bias)
      ),
    ]
  return rules


def prefixed(rules: Sequence[Rule], ours: str, theirs: str) -> list[Rule]:
  """The rules of a model that is a part of a larger one.

  Args:
    rules: of the part alone.
    ours: the part's path, with its slash, or ''.
    theirs: what its tensors' names begin with, with its dot, or ''.
  """
  return [
    dataclasses.replace(
      rule, ours=ours + rule.ours, theirs=theirs + rule.theirs
    )
    for rule in rules
  ]


def load(
  rules: Sequence[Rule],
  source: Source,
  target: Params,
  *,
  skip: Sequence[str] = (),
) -> Params:
  """Fills parameters from a checkpoint.

  Args:
    rules: one for each parameter.
    source: the checkpoint.
    target: tree of `jax.ShapeDtypeStruct`, the parameters' shapes, types and,
      where given, shardings.
    skip: patterns of names in the checkpoint that hold no parameter.

  Returns:
    The parameters, read one tensor at a time.

  Raises:
    ConfigError: if a tensor is missing, left over or has another shape, with
      the first of each kind and the likely cause; or if one is of whole
      numbers.
  """
  leaves = tree_paths.flatten(target)
  by_path = {rule.ours: rule for rule in rules}
  table = [f'no rule fills {path}' for path in sorted(leaves.keys() - by_path)]
  table += [f'no parameter {path}' for path in sorted(by_path.keys() - leaves)]
  missing, shapes, used = {}, {}, set()
  for path in leaves.keys() & by_path:
    shape, names = layers(by_path[path], leaves[path].shape)
    used |= set(names)
    for name in names:
      theirs = tuple(by_path[path].form.theirs(shape))
      if name not in source.names:
        missing[name] = theirs
      elif source.shape(name) != theirs:
        shapes[name] = source.shape(name), theirs
  stored = {source.stored(name) for name in used & source.names}
  left = [
    name
    for name in sorted(source.names - used)
    if source.stored(name) not in stored
    and not any(re.fullmatch(pattern, name) for pattern in skip)
  ]
  if table or missing or shapes or left:
    raise ConfigError(
      mismatches.message(
        dict(sorted(missing.items())), left, dict(sorted(shapes.items())), table
      )
    )
  return tree_paths.unflatten(
    {path: _read(by_path[path], source, leaf) for path, leaf in leaves.items()}
  )


def save(
  rules: Sequence[Rule], params: Params
) -> Iterator[tuple[str, np.ndarray]]:
  """Yields the checkpoint's names and arrays."""
  leaves = tree_paths.flatten(params)
  parts: dict[str, dict[int, np.ndarray]] = {}
  for rule in rules:
    array = np.asarray(jax.device_get(leaves[rule.ours]))
    _, names = layers(rule, array.shape)
    for name, part in zip(
      names, array if LAYER in rule.theirs else [array], strict=True
    ):
      saved = np.asarray(rule.form.save(part), order='C')
      if not isinstance(rule.form, forms.Part):
        yield name, saved
        continue
      together = parts.setdefault(name, {})
      together[rule.form.index] = saved
      if len(together) == rule.form.number:
        ordered = [together[i] for i in sorted(together)]
        yield name, np.concatenate(ordered, axis=rule.form.axis)


def layers(
  rule: Rule, shape: tuple[int, ...]
) -> tuple[tuple[int, ...], list[str]]:
  """Shape of one layer's part of a parameter, and the tensors' names."""
  if LAYER not in rule.theirs:
    return tuple(shape), [rule.theirs]
  names = [rule.theirs.replace(LAYER, str(i)) for i in range(shape[0])]
  return tuple(shape[1:]), names


def _read(rule: Rule, source: Source, leaf: Any) -> jax.Array:
  """One parameter; of stacked layers, one layer at a time."""
  shape, names = layers(rule, leaf.shape)
  place = getattr(leaf, 'sharding', None)

  def read(name: str) -> np.ndarray:
    array = source.read(name)
    if not jnp.issubdtype(array.dtype, jnp.floating):
      raise ConfigError(
        f'{name} is of type {array.dtype}, as quantised tensors are; mmjax '
        'reads parameters in floating point alone, so take the original weights'
      )
    return rule.form.load(array, shape).astype(leaf.dtype)

  if LAYER not in rule.theirs:
    return jax.device_put(read(names[0]), place)
  stacked = jnp.zeros(leaf.shape, leaf.dtype, device=place)
  for i, name in enumerate(names):
    stacked = _put_layer(stacked, read(name), i)
  return stacked


@functools.partial(jax.jit, donate_argnums=0)
def _put_layer(stacked: jax.Array, layer: jax.Array, i: int) -> jax.Array:
  return stacked.at[i].set(layer)
