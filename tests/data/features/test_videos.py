"""Videos become patches of the frames that are sampled of them."""

import io

import numpy as np
import PIL.Image
import pytest

from mmjax.data import features, video_files
from mmjax.errors import ConfigError
from mmjax.ops import packing
from tests.data import video_encoding

SETTINGS = {'patch_size': 2, 'min_pixels': 16, 'max_pixels': 64}
FRAMES = np.random.default_rng(0).integers(0, 256, (12, 8, 10, 3), np.uint8)


def make(**settings) -> features.Videos:
  return features.Videos(name='x', **{**SETTINGS, 'tokens': 40, **settings})


def encode_image(frame) -> bytes:
  file = io.BytesIO()
  PIL.Image.fromarray(frame).save(file, 'PNG')
  return file.getvalue()


def test_positions_follow_the_time_of_the_sampled_frames():
  """Six of twelve frames, 4 a second: 3 steps of 0.5 s; or their number."""
  data = video_encoding.encode(FRAMES, 4)
  (grid,) = make(tokens_per_second=5.0).find_grids([data])
  assert grid == packing.Grid(3, 2, 2, interval=5.0, video=True)
  (grid,) = make(fps=1.0, tokens_per_second=5.0).find_grids([data])
  assert (grid.times, grid.interval) == (2, 5 * 2 / (4 / 3))
  assert make().find_grids([data])[0].interval == 1.0


def test_patches_have_the_frames_of_their_step():
  data = video_encoding.encode(FRAMES[:, :, :8], 2)
  example = make().make_arrays([data], None, flips=False)
  frames = np.stack(video_files.decode(data))
  np.testing.assert_array_equal(
    example['x'][example['x_mask']], packing.cut_frames(frames, 2, 2, 2)
  )
  assert example['x_segments'].max() == 6


def test_a_list_of_images_is_one_video():
  """In a field of the kind `video`; all are read, the last one twice."""
  images = [encode_image(frame) for frame in FRAMES[:3]]
  feature = make(tokens_per_second=4.0)
  value = feature.get({'fields': {'x': images}, 'metadata': {}})
  assert value == [images]
  (grid,) = feature.find_grids(value)
  assert (grid.times, grid.interval) == (2, 4.0)
  example = feature.make_arrays(value, None, flips=False)
  np.testing.assert_equal(example, feature.prepare(FRAMES[:3]))
  last = example['x'][example['x_segments'] == 2].reshape(-1, 3, 2, 4)
  np.testing.assert_array_equal(last[:, :, 0], last[:, :, 1])


def test_frames_share_the_pixels_of_a_video():
  data = video_encoding.encode(FRAMES, 2)
  (grid,) = make(total_pixels=6 * 32).find_grids([data])
  assert grid.times * grid.rows * grid.columns * 16 <= 6 * 32
  (grid,) = make(total_pixels=1).find_grids([data])
  assert (grid.rows, grid.columns) == (1, 1)


def test_steps_stand_for_themselves_behind_their_times():
  """Of frames that share one budget of pixels, in a conversation."""
  whole = {'scheme': 'whole', 'time_text': 'at {:.2f}', 'max_pixels': 300}
  feature = make(fps=1.5, **whole)
  data = video_encoding.encode(FRAMES[:11], 3)
  (grid,) = feature.find_grids([data])  # Frames 0, 2, 5, 8 and 10, twice.
  assert grid == packing.Grid(3, 2, 2, video=True)
  step = packing.Grid(1, 2, 2, video=True)
  assert feature.list_parts(data) == [
    ('at 0.33', step),
    ('at 2.17', step),
    ('at 3.33', step),
  ]
  frames = np.stack(video_files.decode(data))
  example = feature.make_arrays([data], None, flips=False)
  alike = feature.prepare(frames[[0, 2, 5, 8, 10]])
  np.testing.assert_equal(example, alike)
  for budget in ({'max_pixels': 255}, {'frame_pixels': 50}):
    (grid,) = make(fps=1.5, **{**whole, **budget}).find_grids([data])
    assert (grid.rows, grid.columns) == (1, 1)


def test_what_is_too_short_or_too_much_is_refused(tmp_path):
  path = tmp_path / 'a.mp4'
  path.write_bytes(video_encoding.encode(FRAMES[:1], 4))
  with pytest.raises(ConfigError, match=r'a\.mp4: a video of 1 frames is too'):
    make().prepare(path)
  data = video_encoding.encode(FRAMES, 4)
  with pytest.raises(
    ConfigError, match=r'2 videos have 24 tokens, .*tokens=23'
  ):
    make(tokens=23).make_arrays([data, data], None, flips=False)
  with pytest.raises(ConfigError, match=r'or uint8 frames .*, not float64'):
    make().prepare(np.zeros((2, 8, 8, 3)))


def test_frames_are_drawn_in_a_row():
  videos = [video_encoding.encode(FRAMES[:n], 4) for n in (12, 3)]
  drawn, lines = features.Videos.render(videos)
  assert drawn.shape == (192, 4 * 120, 3)
  assert (drawn[96:, 3 * 120 :] == 255).all()
  assert lines == ['12 frames, 4 a second', '3 frames, 4 a second']
