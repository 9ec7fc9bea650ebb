"""Messages with images, as the arrays of a trained model."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmjax.data import chat_messages
from mmjax.data import images as image_files
from mmjax.data.features import Turns, turn_images, turn_values
from mmjax.errors import ConfigError
from mmjax.tasks import base
from mmjax.types import Batch


def read(
  messages: Sequence[Mapping[str, Any]], feature: Turns
) -> tuple[list[Mapping[str, Any]], dict[str, list[Any]]]:
  """Reads messages as turns with their images in their places.

  Args:
    messages: in the form of OpenAI's, with files, Pillow images or arrays.
    feature: the conversations' feature of the model.

  Returns:
    The turns, as `Turns.choose` returns them, and images uint8 [H, W, 3] by
    the name of their feature.

  Raises:
    ConfigError: if the messages are refused, or have more images than the model
      reads; it names the turn.
  """
  separated = chat_messages.separate(messages)
  media = [image_files.to_array(image) for image in separated.media]
  shared = _share(media, feature)
  fields = [
    feature.image_features[name].field_name
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
    feature.image_features[name].field_name: images
    for name, images in shared.items()
  }
  record = {'fields': by_field, 'metadata': {}}
  return feature.place(turns, record), shared


def prepare(
  run: base.TrainedModel, feature: Turns, images: Mapping[str, list[Any]]
) -> Batch:
  """Arrays of one example of the images that `read` returned."""
  if not images:
    return {}
  values = {}
  for name, arrays in images.items():
    is_one = feature.image_features[name].kind == 'image'
    values[name] = arrays if is_one else [arrays]
  absent = [name for name in feature.image_features if name not in images]
  return run.prepare(*absent, **values)


def _share(media: Sequence[Any], feature: Turns) -> dict[str, list[Any]]:
  """Images by their feature: the first ones are of the first feature."""
  left, shared = list(media), {}
  for name, images in feature.image_features.items():
    # For others there is room by their sizes, which `run.prepare` checks.
    counts = turn_images.counts_images(images)
    number = turn_images.count_slots(images) if counts else len(left)
    taken, left = left[:number], left[number:]
    if taken:
      shared[name] = taken
  if left:
    most = len(media) - len(left)
    reads = {0: 'no images', 1: 'one image'}.get(most, f'{most} images')
    raise ConfigError(
      f'the conversation has {len(media)} images, but the model reads {reads}; '
      'leave out the others'
    )
  return shared
