"""Kinds of fields: one class each, for its storage, arrays and drawing."""

from mmjax.data.features.base import UNSET, Example, Feature
from mmjax.data.features.category import Category
from mmjax.data.features.flexible_image import FlexibleImage
from mmjax.data.features.hog import Hog
from mmjax.data.features.images import Image, Images
from mmjax.data.features.json_faults import explain_json_fault
from mmjax.data.features.media_kinds import PLACEHOLDERS, name_media
from mmjax.data.features.numbers import Number, Points, Series, Vector
from mmjax.data.features.patches import Patches
from mmjax.data.features.preference import Preference
from mmjax.data.features.prompt import Prompt
from mmjax.data.features.questions import Questions, count_answers
from mmjax.data.features.sift import Sift
from mmjax.data.features.sound import Sound, Sounds
from mmjax.data.features.text import StoredTexts, Text
from mmjax.data.features.texts import Texts
from mmjax.data.features.tfidf import Tfidf
from mmjax.data.features.tiles import Tiles
from mmjax.data.features.turn_values import split_last_answer
from mmjax.data.features.turns import Turns
from mmjax.data.features.vectors import UnitVector
from mmjax.data.features.video import Video
from mmjax.data.features.videos import Videos

KINDS: dict[str, type[Feature]] = {
  cls.kind: cls
  for cls in (
    Image,
    Images,
    FlexibleImage,
    Patches,
    Tiles,
    Sound,
    Sounds,
    Video,
    Videos,
    Text,
    Texts,
    Category,
    Number,
    Vector,
    Series,
    Points,
    Questions,
    Turns,
    Preference,
    Prompt,
    Hog,
    Sift,
    Tfidf,
  )
}
# Those of the fields of records; the others are made of fields of these kinds.
STORED = {kind: cls for kind, cls in KINDS.items() if kind in cls.field_kinds}

__all__ = [
  'KINDS',
  'PLACEHOLDERS',
  'STORED',
  'UNSET',
  'Category',
  'Example',
  'Feature',
  'FlexibleImage',
  'Hog',
  'Image',
  'Images',
  'Number',
  'Patches',
  'Points',
  'Preference',
  'Prompt',
  'Questions',
  'Series',
  'Sift',
  'Sound',
  'Sounds',
  'StoredTexts',
  'Text',
  'Texts',
  'Tfidf',
  'Tiles',
  'Turns',
  'UnitVector',
  'Vector',
  'Video',
  'Videos',
  'count_answers',
  'explain_json_fault',
  'name_media',
  'split_last_answer',
]
