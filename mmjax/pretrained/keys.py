"""Key tables: which tensor of a published checkpoint is which parameter here.

A table is a list of rules, one for each parameter, for loading and for saving.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
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
    names: names of all tensors.
  """

  names: frozenset[str]

  def shape(self, name: str) -> tuple[int, ...]:
    """The shape of a tensor, without reading it."""

  def read(self, name: str) -> np.ndarray:
    """Reads one tensor."""

  def stored_name(self, name: str) -> str:
    """Name that a tensor is stored under; the same for all of its aliases."""
    return name


@dataclasses.dataclass(frozen=True)
class Rule:
  """One parameter.

  Attributes:
    ours: path of the parameter, such as 'text/blocks/layers/mlp/up/kernel'.
    theirs: name of the tensor; `LAYER` in it stands for the layer's number,
      and our leading axis is then that of layers. Only rules with `Part` may
      have the same name.
    form: layout of the tensor.
  """

  ours: str
  theirs: str
  form: forms.Form = _SAME


def norm(ours: str, theirs: str, *, bias: bool = True) -> list[Rule]:
  """Rules of a layer normalisation, or of an RMS norm if `bias` is False."""
  rules = [Rule(f'{ours}/scale', f'{theirs}.weight')]
  if bias:
    rules.append(Rule(f'{ours}/bias', f'{theirs}.bias'))
  return rules


def dense(
  ours: str, theirs: str, *, inputs: int = 1, bias: bool = True
) -> list[Rule]:
  """Rules of a dense layer, whose outputs or inputs may be split into heads."""
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
    theirs: prefix of the tensors' names.
    names: 'query', 'key', 'value' and 'out' -> their name.
    bias: layers with a bias, as in `mmjax.nn.Attention`.
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


def packed_dense(
  ours: str, theirs: str, names: Sequence[str], *, transposed: bool = True
) -> list[Rule]:
  """Rules of dense layers that are stored as one, such as queries and keys.

  Args:
    ours: prefix of our layers' paths.
    theirs: name of their one layer.
    names: names of our layers, in their order.
    transposed: whether their matrix is [out, in] rather than [in, out].
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


def add_prefixes(rules: Sequence[Rule], ours: str, theirs: str) -> list[Rule]:
  """Adds prefixes to the rules of a model that is a part of a larger one.

  Args:
    rules: rules of the part.
    ours: path of the part with a slash at the end, or ''.
    theirs: prefix of its tensors' names with a dot at the end, or ''.
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
  convert: Callable[[str, Any], Any] = lambda path, leaf: leaf,
  *,
  skip: Sequence[str] = (),
) -> Params:
  """Fills parameters from a checkpoint.

  Args:
    rules: key table, one rule for each parameter.
    source: tensors of the checkpoint.
    target: tree of `jax.ShapeDtypeStruct` with the shapes, types and, if set,
      shardings of the parameters.
    convert: function from the path of a parameter and the parameter to what
      the result has in its place.
    skip: patterns of the names of tensors that hold no parameter.

  Returns:
    The parameters, read and converted one at a time.

  Raises:
    ConfigError: if a tensor is missing, left over or has another shape, with
      the first of each kind and the likely cause; or if one is not in floating
      point.
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
  stored = {source.stored_name(name) for name in used & source.names}
  left = [
    name
    for name in sorted(source.names - used)
    if source.stored_name(name) not in stored
    and not any(re.fullmatch(pattern, name) for pattern in skip)
  ]
  if table or missing or shapes or left:
    raise ConfigError(
      mismatches.message(
        dict(sorted(missing.items())), left, dict(sorted(shapes.items())), table
      )
    )
  return tree_paths.unflatten(
    {
      path: convert(path, _read(by_path[path], source, leaf))
      for path, leaf in leaves.items()
    }
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
  """Reads one parameter; stacked layers are read one at a time."""
  shape, names = layers(rule, leaf.shape)
  sharding = getattr(leaf, 'sharding', None)

  def read(name: str) -> np.ndarray:
    array = source.read(name)
    if not jnp.issubdtype(array.dtype, jnp.floating):
      raise ConfigError(
        f'{name} is of type {array.dtype}, as quantised tensors are; mmjax '
        'reads parameters in floating point alone, so take the original weights'
      )
    return rule.form.load(array, shape).astype(leaf.dtype)

  if LAYER not in rule.theirs:
    return jax.device_put(read(names[0]), sharding)
  stacked = jnp.zeros(leaf.shape, leaf.dtype, device=sharding)
  for i, name in enumerate(names):
    stacked = _put_layer(stacked, read(name), i)
  return stacked


@functools.partial(jax.jit, donate_argnums=0)
def _put_layer(stacked: jax.Array, layer: jax.Array, i: int) -> jax.Array:
  return stacked.at[i].set(layer)
