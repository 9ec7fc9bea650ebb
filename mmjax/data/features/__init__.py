"""Kinds of fields: one class each, for its storage, arrays and drawing."""

from mmjax.data.features.base import Example, Feature, explain_json_fault
from mmjax.data.features.category import Category
from mmjax.data.features.images import Image, Images
from mmjax.data.features.numbers import Number, Points, Series, Vector
from mmjax.data.features.questions import Questions, count_answers
from mmjax.data.features.sound import Sound
from mmjax.data.features.text import Text
from mmjax.data.features.turns import Turns
from mmjax.data.features.video import Video

KINDS: dict[str, type[Feature]] = {
  cls.kind: cls
  for cls in (
    Image,
    Images,
    Sound,
    Video,
    Text,
    Category,
    Number,
    Vector,
    Series,
    Points,
    Questions,
    Turns,
  )
}

__all__ = [
  'KINDS',
  'Category',
  'Example',
  'Feature',
  'Image',
  'Images',
  'Number',
  'Points',
  'Questions',
  'Series',
  'Sound',
  'Text',
  'Turns',
  'Vector',
  'Video',
  'count_answers',
  'explain_json_fault',
]
