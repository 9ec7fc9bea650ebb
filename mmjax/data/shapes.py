"""The `shapes` data set: procedural scenes, captions and questions.

Images are 48x48 PNGs with one to three objects (shape, colour, size, position
on a 3x3 grid). Each has four captions and eight questions. The splits:

  train          scenes by lot
  validation     scenes that are not in train
  test           scenes that are in neither; no two have a caption in common
  compositional  every scene has an object of a shape-colour pair that occurs
                 in no other split (`shapes_scenes.HELD_OUT`)

Everything follows from one seed; nothing is downloaded.
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
  """Sizes of the splits, and the seed that all of it follows from."""

  train: int = 40_000
  validation: int = 1_000
  test: int = 1_000
  compositional: int = 1_000
  seed: int = 0


class Shapes(builders.RecordBuilder):
  """TFDS builder of `shapes`; `shapes/small` is a tenth of it, for tests."""

  name = 'shapes'
  VERSION = tfds.core.Version('1.0.0')
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

  def record_splits(self) -> dict[str, Iterable[records.Record]]:
    config = self.builder_config
    # Evaluation scenes come first, and training avoids them.
    rng = random.Random(f'shapes {config.seed}')
    taken = set()
    evaluation = {
      split: shapes_scenes.distinct_scenes(
        rng, getattr(config, split), taken, held_out=split == 'compositional'
      )
      for split in ('validation', 'test', 'compositional')
    }
    train = shapes_scenes.training_scenes(rng, config.train, taken)
    return {
      split: self._records(split, split_scenes)
      for split, split_scenes in {'train': train, **evaluation}.items()
    }

  def _records(
    self, split: str, split_scenes: Iterable[shapes_scenes.Scene]
  ) -> Iterator[records.Record]:
    held_out = split == 'compositional'
    rng = random.Random(f'shapes {self.builder_config.seed} {split}')
    for i, scene in enumerate(split_scenes):
      yield {
        'id': f'{split}-{i:05d}',
        'image': shapes_drawing.png(shapes_drawing.draw(scene, rng)),
        'captions': shapes_captions.captions(scene),
        'questions': shapes_questions.questions(scene, rng, held_out=held_out),
        'metadata': {
          'num_objects': len(scene),
          'objects': [thing._asdict() for thing in scene],
        },
      }
