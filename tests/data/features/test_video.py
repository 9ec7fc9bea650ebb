"""Videos become frames that are spread over them."""

import io

import numpy as np
import PIL.Image

from mmjax.data import features


def make_gif(levels) -> bytes:
  frames = [PIL.Image.new('L', (7, 5), level) for level in levels]
  file = io.BytesIO()
  frames[0].save(file, 'GIF', save_all=True, append_images=frames[1:])
  return file.getvalue()


LEVELS = tuple(range(0, 240, 20))


def get_levels(example) -> list[int]:
  return example['x'][:, 2, 3, 0].tolist()


def test_frames_are_spread_in_order():
  feature = features.Video(name='x', size=5, number=4)
  data = make_gif(LEVELS)
  assert get_levels(feature.make_arrays([data], None, flips=True)) == [
    20,
    80,
    140,
    200,
  ]
  frames = set()
  for seed in range(40):
    rng = np.random.default_rng(seed)
    levels = get_levels(feature.make_arrays([data], rng, flips=True))
    assert [level // 60 for level in levels] == [0, 1, 2, 3]
    frames.update(levels)
  assert frames == set(LEVELS)


def test_shorter_videos_are_masked():
  feature = features.Video(name='x', size=5, number=4)
  example = feature.make_arrays([make_gif([0, 200])], None, flips=True)
  np.testing.assert_array_equal(example['x_mask'], [1, 1, 0, 0])
  assert not example['x'][2:].any()


def test_all_frames_are_augmented_alike():
  rng = np.random.default_rng(0)
  frames = [
    PIL.Image.fromarray(rng.integers(0, 256, (11, 13, 3), np.uint8))
  ] * 3
  values = []
  for frame in frames:
    file = io.BytesIO()
    frame.save(file, 'PNG')
    values.append(file.getvalue())
  feature = features.Video(
    name='x', size=5, number=3, augment=({'name': 'random_resized_crop'},)
  )
  example = feature.make_arrays(values, np.random.default_rng(1), flips=True)
  np.testing.assert_array_equal(example['x'][0], example['x'][2])
  images = features.Images(
    name='x', size=5, number=3, augment=({'name': 'random_resized_crop'},)
  )
  example = images.make_arrays(values, np.random.default_rng(1), flips=True)
  assert not np.array_equal(example['x'][0], example['x'][2])
