"""The `shapes` data set: procedural scenes, captions and questions.

Images are 48x48 PNGs with one to three objects (shape, colour, size, position
on a 3x3 grid). Each has four captions and eight questions. The splits:

  train          random scenes
  validation     scenes that are not in train
  test           scenes that are in neither; no two share a caption
  compositional  every scene has an object of a shape-colour pair that occurs
                 in no other split (`shapes_scenes.HELD_OUT`)

One seed determines everything; nothing is downloaded.
"""

import dataclasses
import random
from collections.abc import Iterable, Iterator

import tensorflow_datasets as tfds

from mmjax.data import (
  builders,
  records,
  shapes_captions,
  shapes_drawing,
  shapes_questions,
  shapes_scenes,
)


@dataclasses.dataclass(eq=False)
class ShapesConfig(tfds.core.BuilderConfig):
  """Sizes of the splits, and the seed that determines the data set."""

  train: int = 40_000
  validation: int = 1_000
  test: int = 1_000
  compositional: int = 1_000
  seed: int = 0


class Shapes(builders.RecordBuilder):
  """TFDS builder of `shapes`; `shapes/small` has a tenth of the size."""

  name = 'shapes'
  VERSION = tfds.core.Version('2.0.0')
  SUMMARY = 'Procedural scenes of shapes with captions and questions.'
  VOCAB_SIZE = 512
  BUILDER_CONFIGS = (
    ShapesConfig(name='full', description='40,000 training scenes'),
    ShapesConfig(
      name='small',
      description='4,000 training scenes',
      train=4_000,
      validation=200,
      test=200,
      compositional=200,
    ),
  )

  def read_splits(self) -> dict[str, Iterable[records.Record]]:
    config = self.builder_config
    # Evaluation scenes come first, and training avoids them.
    rng = random.Random(f'shapes {config.seed}')
    excluded = set()
    evaluation = {
      split: shapes_scenes.sample_distinct(
        rng, getattr(config, split), excluded, held_out=split == 'compositional'
      )
      for split in ('validation', 'test', 'compositional')
    }
    train = shapes_scenes.sample_training(rng, config.train, excluded)
    return {
      split: self._make_records(split, split_scenes)
      for split, split_scenes in {'train': train, **evaluation}.items()
    }

  def _make_records(
    self, split: str, split_scenes: Iterable[shapes_scenes.Scene]
  ) -> Iterator[records.Record]:
    held_out = split == 'compositional'
    rng = random.Random(f'shapes {self.builder_config.seed} {split}')
    for i, scene in enumerate(split_scenes):
      yield {
        'id': f'{split}-{i:05d}',
        'fields': {
          'image': shapes_drawing.encode_png(shapes_drawing.draw(scene, rng)),
          'captions': shapes_captions.write_captions(scene),
          'questions': shapes_questions.write_questions(
            scene, rng, held_out=held_out
          ),
        },
        'metadata': {
          'num_objects': len(scene),
          'objects': [item._asdict() for item in scene],
        },
      }
