"""Which layer of transformers' model is which dense layer here."""

import collections
import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

from mmjax.errors import ConfigError
from mmjax.nn import adapters
from mmjax.ops import tree_paths
from mmjax.pretrained import base, families, forms, keys, module_names


@dataclasses.dataclass(frozen=True)
class Slot:
  """A dense layer here that is a layer in transformers, or a part of one.

  Attributes:
    name: name of the layer in transformers' model.
    path: path of our layer.
    number: its number in a stack; None if it is in none.
    shape: shape of its kernel, without the axis of a stack.
    part: its number among the layers that are one there.
    parts: number of these.
    is_transposed: whether the matrix is [out, in] there.
  """

  name: str
  path: str
  number: int | None
  shape: tuple[int, ...]
  part: int
  parts: int
  is_transposed: bool


@dataclasses.dataclass(frozen=True)
class Layers:
  """The layers of a published model.

  Attributes:
    family: its family.
    model_type: model type of config.json.
    slots: by name in transformers' model, the dense layers that are it.
    inputs: by our path, number of a kernel's axes of inputs.
    tables: names of all layers in transformers' model -> in the key table.
  """

  family: base.Family
  model_type: str
  slots: Mapping[str, tuple[Slot, ...]]
  inputs: Mapping[str, int]
  tables: Mapping[str, str]

  @property
  def is_transposed(self) -> bool:
    """Whether dense layers are [out, in], as all but those of GPT-2."""
    return all(
      slot.is_transposed for own in self.slots.values() for slot in own
    )

  def by_path(self) -> dict[str, list[Slot]]:
    """The slots by our paths."""
    out = collections.defaultdict(list)
    for own in self.slots.values():
      for slot in own:
        out[slot.path].append(slot)
    return dict(out)

  def in_memory(self, layer: str) -> str:
    """Name in transformers' model of a layer in the key table."""
    return module_names.in_memory(self.model_type, layer)

  def find(self, layer: str) -> str:
    """Name in transformers' model of a layer; '' if there is none.

    Args:
      layer: name of the layer in this or an older release.
    """
    in_table = module_names.in_table(self.family, layer, self.tables)
    return self.in_memory(in_table) if in_table else ''


def _is_dense(name: str, form: forms.Form, packed: frozenset[str]) -> bool:
  """Whether a tensor is the matrix of a module of its own.

  Args:
    name: name of the tensor.
    form: its layout.
    packed: names of PyTorch's attention modules, which read the matrix of
      their `out_proj` themselves.
  """
  layer, _, leaf = name.rpartition('.')
  return (
    leaf == 'weight'
    and isinstance(form, forms.Linear)
    and layer.removesuffix('.out_proj') not in packed
  )


def _refuse_diffusers(config: Mapping[str, Any]) -> None:
  if families.is_diffusers(config):
    raise ConfigError(
      f'{families.name_kind(config)} is a model of diffusers, whose adapters '
      'are not folders of PEFT; merge them there, or save the whole model with '
      'mmjax.save'
    )


def find(module: nn.Module, config: Mapping[str, Any]) -> Layers:
  """Finds the layers of a published model; computes nothing.

  Args:
    module: its module.
    config: its config.json.

  Raises:
    ConfigError: for a model of diffusers, whose adapters are files of another
      kind.
  """
  family = families.find(config)
  _refuse_diffusers(config)
  with adapters.record_layers() as recorded:
    boxed = jax.eval_shape(
      functools.partial(module.init, train=False),
      jax.random.key(0),
      family.inputs(config),
    )
  shapes = tree_paths.flatten(nn.meta.unbox(boxed['params']))
  model_type = config['model_type']
  slots, tables = collections.defaultdict(list), {}
  table = family.rules(config)
  packed = frozenset(
    rule.theirs.removesuffix('.in_proj_weight')
    for rule in table
    if rule.theirs.endswith('.in_proj_weight')
  )
  for rule in table:
    shape, names = keys.layers(rule, shapes[rule.ours].shape)
    path = rule.ours.rpartition('/')[0]
    form, part, parts = rule.form, 0, 1
    if isinstance(form, forms.Part):
      form, part, parts = form.form, form.index, form.number
    for number, name in enumerate(names):
      in_table = name.rpartition('.')[0]
      layer = module_names.in_memory(model_type, in_table)
      if not layer:
        continue
      tables[layer] = in_table
      if _is_dense(name, form, packed) and path in recorded:
        slot = Slot(
          name=layer,
          path=path,
          number=number if keys.LAYER in rule.theirs else None,
          shape=shape,
          part=part,
          parts=parts,
          is_transposed=form.transposed,
        )
        slots[layer].append(slot)
  return Layers(
    family=family,
    model_type=model_type,
    slots={name: tuple(own) for name, own in slots.items()},
    inputs={path: axes[0] for path, axes in recorded.items()},
    tables=tables,
  )
