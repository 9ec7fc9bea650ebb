"""Images in their places in conversations."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mmjax.data.features import (
  base,
  images,
  patches,
  tiles,
  turn_checks,
  turn_layouts,
  turn_values,
)
from mmjax.errors import ConfigError
from mmjax.ops import anyres, packing

KINDS = (images.Image, images.Images, patches.Patches, tiles.Tiles)


@dataclasses.dataclass(frozen=True)
class PlacedImage:
  """An image in the content of a turn.

  Attributes:
    field: field that has it.
    slot: its number among the images that a row has room for, those of one
      feature after those of the other; of tiles, the number of its first.
    grid: its tokens.
    size: how many of these it is: of tiles their number, else 1.
    text: what is written for it: texts, and numbers of its tokens.
    layout: what its tokens are made of, where that is not one tile after the
      other.
  """

  field: str
  slot: int
  grid: packing.Grid
  size: int = 1
  text: tuple[str | int, ...] = ()
  layout: anyres.Layout | None = None


def check(turns: Any, features: Mapping[str, base.Feature]) -> None:
  """Refuses features of images that can't stand in a conversation together.

  Args:
    turns: the conversation's feature, with `image` and `image_tokens`.
    features: features of images by name, some of those in `image`.

  Raises:
    ConfigError: naming the setting.
  """
  wrong = [n for n, f in features.items() if type(f) not in KINDS]
  if wrong:
    kinds = ', '.join(kind.kind for kind in KINDS)
    turns.refuse(
      'image',
      f'names {wrong[0]!r} of the kind {features[wrong[0]].kind}; use {kinds}',
    )
  has_patches = any(has_grids(feature) for feature in features.values())
  if len(features) > 1 and not all(map(counts_images, features.values())):
    turns.refuse(
      'image', 'names several features, of which one has patches or tiles'
    )
  if not turns.placeholder:
    turns.refuse('image', 'needs placeholder too')
  turn_checks.check_image_text(turns)
  if has_patches and turns.image_tokens:
    turns.refuse('image_tokens', 'is not legal: images have as many as fit')
  if not has_patches and turns.image_tokens < 1:
    turns.refuse('image', 'needs image_tokens too')
  side = math.isqrt(turns.image_tokens)
  laid_out = any(map(turn_layouts.is_laid_out, features.values()))
  if laid_out and side**2 != turns.image_tokens:
    turns.refuse('image_tokens', 'is not legal: a tile has a square of tokens')
  if not has_patches and len({f.shape for f in features.values()}) > 1:
    turns.refuse('image', 'names features of several sizes; make them equal')
  if turns.packed and any(f.kind == 'image' for f in features.values()):
    turns.refuse(
      'packed',
      f'packs images of several conversations, so {", ".join(features)} should '
      "be of the kind 'images', with as many as a row has room for",
    )
  if turns.packed and len(features) > 1:
    turns.refuse('packed', 'packs images of one feature, but image has several')


def has_grids(feature: base.Feature) -> bool:
  """Whether images have rows and columns of tokens of their own."""
  return isinstance(feature, patches.Patches)


def counts_images(feature: base.Feature) -> bool:
  """Whether a row has room for a number of images, whatever their sizes."""
  return isinstance(feature, images.Image)


def count_slots(feature: base.Feature) -> int:
  """How many images, or tiles, a row has room for; of patches, tokens."""
  if isinstance(feature, patches.Patches):
    return feature.tokens
  return getattr(feature, 'number', 1)


def count_used(feature: base.Feature, turns: Sequence[Mapping]) -> int:
  """How much of this room placed turns take."""
  placed = list_placed(turns)
  if isinstance(feature, patches.Patches):
    return sum(image.grid.tokens for image in placed)
  return sum(image.size for image in placed)


def list_placed(turns: Sequence[Mapping]) -> list[PlacedImage]:
  """The images of placed turns, in their order."""
  return [
    item
    for turn in turns
    for item in turn['content']
    if isinstance(item, PlacedImage)
  ]


def list_grids(turns: Sequence[Mapping]) -> list[packing.Grid]:
  """The tokens of each image of placed turns, in their order."""
  return [placed.grid for placed in list_placed(turns)]


def list_items(turn: Mapping[str, Any]) -> list[Any]:
  """Texts of a placed turn, and {'type': 'image'} in the place of each image.

  Texts next to each other become one.
  """
  items: list[Any] = []
  for item in turn['content']:
    if isinstance(item, PlacedImage):
      items.append({'type': 'image'})
      continue
    text = turn_values.get_text({'content': [item]})
    if items and isinstance(items[-1], str):
      items[-1] += f' {text}'
    else:
      items.append(text)
  return items or ['']


def refer_first(
  turns: Sequence[Mapping],
  record: Mapping[str, Any],
  features: Mapping[str, base.Feature],
) -> list[dict[str, Any]]:
  """Turns with the images that none of them refers to before the first text.

  That is the first text of the user's.
  """
  references = [
    turn_values.refer(feature.field_name)
    for feature in features.values()
    if not turn_values.count_references(turns, feature.field_name)
    for _ in _list_values(feature, record)
  ]
  out = [dict(turn) for turn in turns]
  for turn in out:
    if turn['role'] == 'user':
      turn['content'] = [*references, *turn['content']]
      break
  return out


def place(
  turns: Sequence[Mapping],
  record: Mapping[str, Any],
  features: Mapping[str, base.Feature],
  image_tokens: int,
) -> list[dict[str, Any]]:
  """Puts the images of a record where its turns refer to them.

  The first reference to a field is its first image, and so on.

  Args:
    turns: the turns.
    record: a record with their images, encoded or as arrays.
    features: features of images by name.
    image_tokens: number of tokens of each image, or tile, without patches.

  Returns:
    The turns, with a `PlacedImage` for each reference.

  Raises:
    ConfigError: if they refer to more images than the record has, or to fewer,
      or to more than there is room for; it names the turn.
  """
  slot, left = 0, {}
  for feature in features.values():
    found = list(_find_images(feature, record, image_tokens, slot))
    if found and feature.field_name not in left:
      left[feature.field_name] = found
    slot += count_slots(feature)
  fields = {feature.field_name for feature in features.values()}
  numbers = {field: len(left.get(field, ())) for field in fields}
  out = []
  for number, turn in enumerate(turns, 1):
    content = []
    for item in turn['content']:
      field = turn_values.get_field(item)
      if field in fields:
        if not left.get(field):
          raise ConfigError(_explain_lack(number, field, numbers[field]))
        item = left[field].pop(0)
      content.append(item)
    out.append({**turn, 'content': content})
  for field, rest in left.items():
    if rest:
      used = numbers[field] - len(rest)
      raise ConfigError(
        f'{len(turns)} turns refer to {used} images, but the field {field!r} '
        f'of the record has {numbers[field]}; refer to each in its place, '
        f'{turn_values.refer(field)}, or leave it out'
      )
  return out


def _explain_lack(number: int, field: str, has: int) -> str:
  if not has:
    return (
      f'turn {number} refers to the field {field!r}, which the record lacks'
    )
  return (
    f'turn {number} refers to image {has + 1} of the field {field!r}, but the '
    f'record has {has}; leave out the reference, or add the image'
  )


def _list_values(feature: base.Feature, record: Mapping[str, Any]) -> list:
  """The images of a record that a feature reads."""
  value = feature.get(record)
  if value is None:
    return []
  return value if isinstance(value, list) else [value]


def _find_images(
  feature: base.Feature,
  record: Mapping[str, Any],
  image_tokens: int,
  slot: int,
) -> Iterator[PlacedImage]:
  """The images of a record, the first of which has the number `slot`."""
  values, field = _list_values(feature, record), feature.field_name
  if isinstance(feature, patches.Patches):
    for number, grid in enumerate(feature.find_grids(values)):
      yield PlacedImage(field, slot + number, grid, text=(grid.tokens,))
    return
  if turn_layouts.is_laid_out(feature):
    for value in values:
      layout = feature.lay_out(value, len(values), image_tokens)
      size = feature.count_tiles(value, len(values))
      grid = packing.Grid(1, 1, len(layout))
      yield PlacedImage(field, slot, grid, size, (len(layout),), layout)
      slot += size
    return
  if isinstance(feature, tiles.Tiles):
    for value in values:
      parts = feature.write(value)
      size = parts.count(None)
      text = tuple(image_tokens if part is None else part for part in parts)
      grid = packing.Grid(1, size, image_tokens)
      yield PlacedImage(field, slot, grid, size, text)
      slot += size
    return
  if len(values) > count_slots(feature):
    raise ConfigError(
      f'the record has {len(values)} images, but data.features.{feature.name}.'
      f'number is {count_slots(feature)}; raise it'
    )
  grid = packing.Grid(1, 1, image_tokens)
  for number in range(len(values)):
    yield PlacedImage(field, slot + number, grid, text=(grid.tokens,))


def expand(
  ids: Sequence[int],
  learnt: Sequence[bool],
  token_id: int,
  turns: Sequence[Mapping],
  encode: Callable[[str], Sequence[int]],
) -> tuple[list[int], list[bool]]:
  """Writes the placeholder of each image as its tokens, and those around them.

  Nobody says them, so none is learnt.

  Args:
    ids: ids of a text with one placeholder an image.
    learnt: bool for each of them.
    token_id: the placeholder.
    turns: the placed turns.
    encode: a token, or a text between tokens, -> its ids.
  """
  remaining = iter(list_placed(turns))
  out, said = [], []
  for own_id, is_learnt in zip(ids, learnt, strict=True):
    own = [own_id]
    if own_id == token_id:
      own = [
        written
        for part in next(remaining).text
        for written in (
          [token_id] * part if isinstance(part, int) else encode(part)
        )
      ]
    out += own
    said += [is_learnt and own_id != token_id] * len(own)
  return out, said


def make_arrays(
  name: str,
  ids: Sequence[int],
  turns: Sequence[Mapping],
  length: int,
  token_id: int,
  features: Mapping[str, base.Feature],
  image_tokens: int,
) -> base.Example:
  """The arrays of a conversation that say where its images are.

  Args:
    name: name of the conversation's feature.
    ids: its ids, one placeholder for each token of an image; uncut.
    turns: its placed turns.
    length: T.
    token_id: the placeholder.
    features: features of images by name.
    image_tokens: number of tokens of each image, or tile, without patches.

  Returns:
    `NAME_rotary` int32 [T, 3] with patches: time, row and column of each token
    (`mmjax.ops.packing.rotary_positions`); with several features `NAME_slots`
    int32 [n], the number of each image among those of a row; and with tiles
    that are laid out `NAME_sources` int32 and `NAME_weights` float32 [T, 4], of
    as many tokens of images as there are (`mmjax.ops.anyres.Layout`).
  """
  example = {}
  if any(map(has_grids, features.values())):
    rotary = np.zeros((length, 3), np.int32)
    grids = list_grids(turns)
    if ids:
      rows = packing.rotary_positions(ids, grids, (token_id,))[:length]
      rotary[: len(rows)] = rows
    example[f'{name}_rotary'] = rotary
  if len(features) > 1:
    slots = np.zeros(sum(map(count_slots, features.values())), np.int32)
    placed = [image.slot for image in list_placed(turns)]
    slots[: len(placed)] = placed
    example[f'{name}_slots'] = slots
  if any(map(turn_layouts.is_laid_out, features.values())):
    example |= turn_layouts.make_arrays(
      name, list_placed(turns), length, image_tokens
    )
  return example


def join(
  name: str,
  examples: Sequence[base.Example],
  features: Mapping[str, base.Feature],
  image_tokens: int,
) -> base.Example:
  """Joins those arrays of `make_arrays` that count the tiles of a row.

  Args:
    name: name of the conversations' feature.
    examples: all arrays of each conversation of the row.
    features: features of images by name.
    image_tokens: number of tokens of each image, or tile, without patches.
  """
  if not any(map(turn_layouts.is_laid_out, features.values())):
    return {}
  return turn_layouts.join(name, examples, features, image_tokens)


def list_suffixes(features: Mapping[str, base.Feature]) -> tuple[str, ...]:
  """Suffixes of the keys of `make_arrays`."""
  names = ['rotary'] if any(map(has_grids, features.values())) else []
  if any(map(turn_layouts.is_laid_out, features.values())):
    names += ['sources', 'weights']
  return (*names, *(('slots',) if len(features) > 1 else ()))
