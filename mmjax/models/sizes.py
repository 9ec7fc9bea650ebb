"""What data and tasks determine of a model."""

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from typing import Any

if typing.TYPE_CHECKING:
  # Models need nothing of the data's code.
  from mmjax.data.features import Feature


@dataclasses.dataclass(frozen=True)
class DataSizes:
  """What the data determines of a model.

  Attributes:
    vocab_size: V of all text parts that don't set a larger one.
    text_length: length of the longest caption, the `max_length` of parts that
      get captions and don't set one.
    question_length: length of the longest question.
    answer_length: length of the longest answer.
    num_answers: C, size of the answer vocabulary; 0 for no classifier.
    special_ids: the tokenizer's `bos_id`, `eos_id` and `pad_id`, for models
      that generate text.
    features: features of the data by name, which `encoders` read.
  """

  vocab_size: int
  text_length: int = 0
  question_length: int = 0
  answer_length: int = 0
  num_answers: int = 0
  special_ids: Mapping[str, int | None] = dataclasses.field(
    default_factory=dict
  )
  features: Mapping[str, 'Feature'] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class OutputSpec:
  """What tasks need a model to return.

  Attributes:
    sizes: number of outputs by target, for models that predict features.
    text: the text feature that a model writes; '' for none.
    masked_heads: settings of heads by feature of which a model predicts hidden
      parts.
    embedded: features that a model embeds.
  """

  sizes: Mapping[str, int] = dataclasses.field(default_factory=dict)
  text: str = ''
  masked_heads: Mapping[str, Mapping[str, Any]] = dataclasses.field(
    default_factory=dict
  )
  embedded: Sequence[str] = ()


def describe_media(data: DataSizes, outputs: OutputSpec) -> dict[str, Any]:
  """The attributes of a model that describe what stands in conversations."""
  feature = data.features.get(outputs.text)
  sound, video = (getattr(feature, key, '') for key in ('sound', 'video'))
  names = tuple(getattr(feature, 'media_names', ()))
  described = {
    'input_images': tuple(n for n in names if n not in (sound, video)),
    'input_videos': tuple(name for name in names if name == video),
    'input_sounds': tuple(name for name in names if name == sound),
    'image_tokens': getattr(feature, 'image_tokens', 0),
  }
  if sound in data.features:
    described['sample_rate'] = data.features[sound].rate
  return described
