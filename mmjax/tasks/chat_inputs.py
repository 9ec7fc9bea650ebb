"""Messages with images or sounds, as the arrays of a trained model."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmjax.data import chat_messages
from mmjax.data import images as image_files
from mmjax.data.features import Turns, media_kinds, turn_values
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
    images uint8 [H, W, 3] or sounds float32 [N].

  Raises:
    ConfigError: if the messages are refused, or have more images or sounds than
      the model reads; it names the turn.
  """
  separated = chat_messages.separate(messages)
  _check_parts(separated, feature)
  read_file = image_files.to_array
  if feature.sound:
    read_file = feature.media_features[feature.sound].read_samples
  shared = _share(list(map(read_file, separated.media)), feature)
  fields = [
    feature.media_features[name].field_name
    for name, images in shared.items()
    for _ in images
  ]
  left = iter(fields)
  turns = [
    {
      'role': turn['role'],
      'content': [
        item if isinstance(item, str) else turn_values.refer(next(left))
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


def _check_parts(separated: chat_messages.Separated, feature: Turns) -> None:
  """Refuses sounds where images are read, and images where sounds are."""
  legal = 'audio' if feature.sound else 'image'
  for number, message in enumerate(separated.messages, 1):
    for item in message.get('content', ()):
      if not isinstance(item, str) and item['type'] != legal:
        media = f' and {feature.medium}s' if feature.media_names else ' alone'
        raise ConfigError(
          f'turn {number} has a part of the type {item["type"]}, but the model '
          f'reads texts{media}; leave it out'
        )


def _share(media: Sequence[Any], feature: Turns) -> dict[str, list[Any]]:
  """Those of each feature: the first ones are of the first feature."""
  left, shared = list(media), {}
  for name, images in feature.media_features.items():
    # For others there is room by their sizes, which `run.prepare` checks.
    counts = media_kinds.counts_media(images)
    number = media_kinds.count_slots(images) if counts else len(left)
    taken, left = left[:number], left[number:]
    if taken:
      shared[name] = taken
  if left:
    most = len(media) - len(left)
    word = feature.medium
    reads = {0: f'no {word}s', 1: f'one {word}'}.get(most, f'{most} {word}s')
    raise ConfigError(
      f'the conversation has {len(media)} {word}s, but the model reads '
      f'{reads}; leave out the others'
    )
  return shared
