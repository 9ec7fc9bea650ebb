"""Images, videos and sounds in their places in conversations."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mmjax.data.features import (
  base,
  media_kinds,
  patches,
  sound,
  tiles,
  turn_layouts,
  turn_values,
)
from mmjax.errors import ConfigError
from mmjax.ops import anyres, packing


@dataclasses.dataclass(frozen=True)
class Placed:
  """An image, a video or one of its steps, or a sound in a turn's content.

  Attributes:
    field: field that has it.
    slot: its number among those that a row has room for, those of one feature
      after those of the other; of tiles, the number of its first.
    grid: its tokens.
    size: how many of these it is: of tiles their number, else 1.
    text: what is written for it: texts, and numbers of its tokens.
    layout: what its tokens are made of, where that is not one tile after the
      other.
    part: type of the part that a chat template reads for it.
    before: words that are read before it, in its turn.
  """

  field: str
  slot: int
  grid: packing.Grid
  size: int = 1
  text: tuple[str | int, ...] = ()
  layout: anyres.Layout | None = None
  part: str = 'image'
  before: str = ''


def count_used(feature: base.Feature, turns: Sequence[Mapping]) -> int:
  """How much of a feature's room placed turns take."""
  placed = [p for p in list_placed(turns) if p.field == feature.field_name]
  if isinstance(feature, patches.Patches):
    return sum(image.grid.tokens for image in placed)
  return sum(image.size for image in placed)


def list_placed(turns: Sequence[Mapping]) -> list[Placed]:
  """The images, videos or sounds of placed turns, in their order."""
  return [
    item
    for turn in turns
    for item in turn['content']
    if isinstance(item, Placed)
  ]


def list_grids(turns: Sequence[Mapping]) -> list[packing.Grid]:
  """The tokens of each image or video of placed turns, in their order."""
  return [placed.grid for placed in list_placed(turns)]


def list_items(turn: Mapping[str, Any]) -> list[Any]:
  """Texts of a placed turn, and {'type': 'image'} in the place of an image.

  Of a video the type is 'video', of a sound 'audio'. Texts next to each other
  become one.
  """
  items: list[Any] = []
  for item in turn['content']:
    if isinstance(item, Placed):
      items += [item.before] if item.before else []
      items.append({'type': item.part})
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
  """Turns with what none of them refers to before the first text.

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
  """Puts the images or sounds of a record where its turns refer to them.

  The first reference to a field is its first image, and so on.

  Args:
    turns: the turns.
    record: a record with their images or sounds, encoded or as arrays.
    features: features of these by name.
    image_tokens: number of tokens of each image, or tile, without patches.

  Returns:
    The turns, with a `Placed` for each reference.

  Raises:
    ConfigError: if they refer to more than the record has, or to fewer, to more
      than there is room for, or to another field; it names the turn.
  """
  slot, left = 0, {}
  for feature in features.values():
    found = list(_find_media(feature, record, image_tokens, slot))
    if found and feature.field_name not in left:
      left[feature.field_name] = found
    slot += media_kinds.count_slots(feature)
  words = {f.field_name: media_kinds.get_word(f) for f in features.values()}
  numbers = {field: len(left.get(field, ())) for field in words}
  out = []
  for number, turn in enumerate(turns, 1):
    content = []
    for item in turn['content']:
      field = turn_values.get_field(item)
      if field in words:
        if not left.get(field):
          raise ConfigError(
            _explain_lack(number, field, numbers[field], words[field])
          )
        content += left[field].pop(0)
        continue
      if field and words:
        raise ConfigError(
          f'turn {number} refers to the field {field!r}, but the model reads '
          f'{", ".join(words)} in conversations; leave out the reference'
        )
      content.append(item)
    out.append({**turn, 'content': content})
  for field, rest in left.items():
    if rest:
      used = numbers[field] - len(rest)
      raise ConfigError(
        f'{len(turns)} turns refer to {used} {words[field]}s, but the field '
        f'{field!r} of the record has {numbers[field]}; refer to each in its '
        f'place, {turn_values.refer(field)}, or leave it out'
      )
  return out


def _explain_lack(number: int, field: str, has: int, word: str) -> str:
  if not has:
    return (
      f'turn {number} refers to the field {field!r}, which the record lacks'
    )
  return (
    f'turn {number} refers to {word} {has + 1} of the field {field!r}, but the '
    f'record has {has}; leave out the reference, or add the {word}'
  )


def _list_values(feature: base.Feature, record: Mapping[str, Any]) -> list:
  """The images or sounds of a record that a feature reads."""
  value = feature.get(record)
  if value is None:
    return []
  return value if isinstance(value, list) else [value]


def _find_media(
  feature: base.Feature,
  record: Mapping[str, Any],
  image_tokens: int,
  slot: int,
) -> Iterator[list[Placed]]:
  """What stands for each one of a record, the first of which has `slot`."""
  values, field = _list_values(feature, record), feature.field_name
  if isinstance(feature, patches.Patches):
    part = media_kinds.get_part(feature)
    for number, value in enumerate(values, slot):
      yield [
        Placed(
          field, number, grid, text=(grid.tokens,), part=part, before=before
        )
        for before, grid in feature.list_parts(value)
      ]
    return
  if turn_layouts.is_laid_out(feature):
    for value in values:
      layout = feature.lay_out(value, len(values), image_tokens)
      size = feature.count_tiles(value, len(values))
      grid = packing.Grid(1, 1, len(layout))
      yield [Placed(field, slot, grid, size, (len(layout),), layout)]
      slot += size
    return
  if isinstance(feature, tiles.Tiles):
    for value in values:
      parts = feature.write(value)
      size = parts.count(None)
      text = tuple(image_tokens if part is None else part for part in parts)
      grid = packing.Grid(1, size, image_tokens)
      yield [Placed(field, slot, grid, size, text)]
      slot += size
    return
  if len(values) > media_kinds.count_slots(feature):
    raise ConfigError(
      f'the record has {len(values)} {media_kinds.get_word(feature)}s, but '
      f'data.features.{feature.name}.number is '
      f'{media_kinds.count_slots(feature)}; raise it'
    )
  if isinstance(feature, sound.Sounds):
    for number, value in enumerate(values, slot):
      tokens = feature.count_tokens(value)
      grid = packing.Grid(1, 1, tokens, sound=True)
      yield [Placed(field, number, grid, text=(tokens,), part='audio')]
    return
  grid = packing.Grid(1, 1, image_tokens)
  for number in range(len(values)):
    yield [Placed(field, slot + number, grid, text=(grid.tokens,))]


def make_arrays(
  name: str,
  ids: Sequence[int],
  turns: Sequence[Mapping],
  length: int,
  token_ids: Sequence[int],
  features: Mapping[str, base.Feature],
  image_tokens: int,
) -> base.Example:
  """The arrays of a conversation that say where its images or sounds are.

  Args:
    name: name of the conversation's feature.
    ids: its ids, one placeholder for each token of an image; uncut.
    turns: its placed turns.
    length: T.
    token_ids: the placeholders.
    features: features of images, videos or sounds by name.
    image_tokens: number of tokens of each image, or tile, without patches.

  Returns:
    `NAME_rotary` int32 [T, 3] with patches: time, row and column of each token
    (`mmjax.ops.packing.rotary_positions`); with several features `NAME_slots`
    int32 [n], the number of each image among those of a row; and with tiles
    that are laid out `NAME_sources` int32 and `NAME_weights` float32 [T, 4], of
    as many tokens of images as there are (`mmjax.ops.anyres.Layout`).
  """
  example = {}
  if any(map(media_kinds.has_grids, features.values())):
    rotary = np.zeros((length, 3), np.int32)
    grids = list_grids(turns)
    if ids:
      rows = packing.rotary_positions(ids, grids, token_ids)[:length]
      rotary[: len(rows)] = rows
    example[f'{name}_rotary'] = rotary
  if _has_slots(features):
    slots = np.zeros(
      sum(map(media_kinds.count_slots, _list_images(features))), np.int32
    )
    placed = [item.slot for item in list_placed(turns) if item.part == 'image']
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
  names = (
    ['rotary'] if any(map(media_kinds.has_grids, features.values())) else []
  )
  if any(map(turn_layouts.is_laid_out, features.values())):
    names += ['sources', 'weights']
  return (*names, *(('slots',) if _has_slots(features) else ()))


def _has_slots(features: Mapping[str, base.Feature]) -> bool:
  """Whether images of several features have an order in the text.

  Tokens of images, videos and sounds each have their own, and other
  placeholders.
  """
  images = _list_images(features)
  return len(images) > 1 and all(map(media_kinds.counts_media, images))


def _list_images(features: Mapping[str, base.Feature]) -> list[base.Feature]:
  """The features of images, whose slots are the first."""
  return [f for f in features.values() if media_kinds.get_word(f) == 'image']
