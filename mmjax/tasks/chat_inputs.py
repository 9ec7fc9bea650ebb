"""Messages with images, videos or sounds, as the arrays of a trained model."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmjax.data import chat_messages
from mmjax.data import images as image_files
from mmjax.data.features import (
  Feature,
  Sounds,
  Turns,
  Videos,
  media_kinds,
  turn_values,
)
from mmjax.errors import ConfigError
from mmjax.tasks import base
from mmjax.types import Batch


def read(
  messages: Sequence[Mapping[str, Any]], feature: Turns
) -> tuple[list[Mapping[str, Any]], dict[str, list[Any]]]:
  """Reads messages as turns with their images or sounds in their places.

  Args:
    messages: in the form of OpenAI's, with files, Pillow images or arrays.
    feature: the conversations' feature of the model.

  Returns:
    The turns, as `Turns.choose` returns them, and by the name of their feature
    images uint8 [H, W, 3], videos as `Videos.find_grids` takes them, or sounds
    float32 [N].

  Raises:
    ConfigError: if the messages are refused, or have more images or sounds than
      the model reads; it names the turn.
  """
  separated = chat_messages.separate(messages)
  shared = _share(separated, feature)
  left: dict[str, list[str]] = {}
  for name, media in shared.items():
    own = feature.media_features[name]
    fields = left.setdefault(media_kinds.get_part(own), [])
    fields += [own.field_name] * len(media)
  turns = [
    {
      'role': turn['role'],
      'content': [
        item
        if isinstance(item, str)
        else turn_values.refer(left[item['type']].pop(0))
        for item in turn.get('content', [])
      ],
    }
    for turn in separated.messages
  ]
  if fault := feature.explain_fault(turns):
    raise ConfigError(f'the conversation {fault}')
  by_field = {
    feature.media_features[name].field_name: images
    for name, images in shared.items()
  }
  record = {'fields': by_field, 'metadata': {}}
  return feature.place(turns, record), shared


def prepare(
  run: base.TrainedModel, feature: Turns, images: Mapping[str, list[Any]]
) -> Batch:
  """Arrays of one example of the images or sounds that `read` returned."""
  if not images:
    return {}
  values = {}
  for name, arrays in images.items():
    is_one = feature.media_features[name].kind == 'image'
    values[name] = arrays if is_one else [arrays]
  absent = [name for name in feature.media_features if name not in images]
  return run.prepare(*absent, **values)


def _share(
  separated: chat_messages.Separated, feature: Turns
) -> dict[str, list[Any]]:
  """What each feature reads: the first images are of the first one.

  Raises:
    ConfigError: for media that the model doesn't read, or more than it does.
  """
  by_kind: dict[str, list[Any]] = {}
  sources = iter(separated.media)
  known = {
    media_kinds.PARTS[word]: word for word in media_kinds.name_media(feature)
  }
  for number, message in enumerate(separated.messages, 1):
    for item in message.get('content', ()):
      if isinstance(item, str):
        continue
      if item['type'] not in known:
        media = ''.join(f' and {word}s' for word in known.values())
        raise ConfigError(
          f'turn {number} has a part of the type {item["type"]}, but the model '
          f'reads texts{media or " alone"}; leave it out'
        )
      by_kind.setdefault(item['type'], []).append(next(sources))
  shared = {}
  for kind, media in by_kind.items():
    features = {
      name: own
      for name, own in feature.media_features.items()
      if media_kinds.get_part(own) == kind
    }
    shared |= _share_kind(media, features, known[kind])
  # In the order of the features, as their slots are.
  return {
    name: shared[name] for name in feature.media_features if name in shared
  }


def _share_kind(
  media: Sequence[Any], features: Mapping[str, Feature], word: str
) -> dict[str, list[Any]]:
  """The same of media of one kind."""
  left, shared = list(media), {}
  for name, own in features.items():
    # For others there is room by their sizes, which `run.prepare` checks.
    counts = media_kinds.counts_media(own)
    number = media_kinds.count_slots(own) if counts else len(left)
    taken, left = left[:number], left[number:]
    if taken:
      shared[name] = [_read_file(own, source) for source in taken]
  if left:
    most = len(media) - len(left)
    reads = {0: f'no {word}s', 1: f'one {word}'}.get(most, f'{most} {word}s')
    raise ConfigError(
      f'the conversation has {len(media)} {word}s, but the model reads '
      f'{reads}; leave out the others'
    )
  return shared


def _read_file(feature: Feature, source: Any) -> Any:
  """An image, a video or a sound of a message, as the feature reads it."""
  if isinstance(feature, Sounds):
    return feature.read_samples(source)
  if isinstance(feature, Videos):
    return feature.read_video(source)
  return image_files.to_array(source)
