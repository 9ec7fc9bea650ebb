"""Videos and animations are decoded, damaged ones refused."""

import io
import sys

import numpy as np
import PIL.Image
import pytest

from mmjax.data import video_files
from mmjax.errors import ConfigError
from tests.data import video_encoding

LEVELS = (0, 60, 120, 180, 240)


def make_animation(format: str) -> bytes:
  frames = [PIL.Image.new('RGB', (16, 32), (n, n, n)) for n in LEVELS]
  file = io.BytesIO()
  frames[0].save(
    file, format, save_all=True, append_images=frames[1:], lossless=True
  )
  return file.getvalue()


def make_video(format: str, codec: str) -> bytes:
  images = [np.full((32, 16, 3), level, np.uint8) for level in LEVELS]
  return video_encoding.encode(images, 5, format, codec)


def make_file(name: str) -> bytes:
  if name in ('GIF', 'WEBP', 'PNG'):
    return make_animation(name)
  return make_video(name, 'mpeg4')


FORMATS = ('GIF', 'WEBP', 'PNG', 'mp4', 'avi', 'matroska')


@pytest.mark.parametrize('name', FORMATS)
def test_all_frames_are_decoded(name):
  frames = video_files.decode(make_file(name))
  assert {frame.shape for frame in frames} == {(32, 16, 3)}
  assert {frame.dtype.name for frame in frames} == {'uint8'}
  # A lossy codec keeps an even image within a few levels.
  means = [frame.mean() for frame in frames]
  np.testing.assert_allclose(means, LEVELS, atol=6)


@pytest.mark.parametrize('name', FORMATS)
def test_damage_is_a_config_error_or_fewer_frames(name):
  data = make_file(name)
  with pytest.raises(ConfigError, match='not a readable'):
    video_files.decode(data[:20])
  rng = np.random.default_rng(0)
  for _ in range(20):
    changed = np.frombuffer(data, np.uint8).copy()
    spots = rng.integers(0, len(changed), 9)
    changed[spots] = rng.integers(0, 256, 9)
    changed = changed[: int(rng.integers(len(changed)))].tobytes()
    try:
      frames = video_files.decode(changed)
    except ConfigError:
      continue
    assert 0 < len(frames) <= len(LEVELS)


@pytest.mark.parametrize('data', [b'', b'RIFF', bytes(100), b'hello world'])
def test_what_is_not_a_video_is_refused(data):
  with pytest.raises(ConfigError, match='not a readable'):
    video_files.decode(data)


def test_a_still_image_is_one_frame():
  file = io.BytesIO()
  PIL.Image.new('RGB', (3, 5)).save(file, 'JPEG')
  (frame,) = video_files.decode(file.getvalue())
  assert frame.shape == (5, 3, 3)


def test_without_the_package_the_message_names_it(monkeypatch):
  monkeypatch.setitem(sys.modules, 'av', None)
  assert len(video_files.decode(make_file('GIF'))) == len(LEVELS)
  with pytest.raises(ConfigError, match=r'PyAV: pip install .mmjax\[video\]'):
    video_files.decode(make_file('mp4'))


def test_a_script_that_names_a_file_opens_none(tmp_path, monkeypatch):
  """Videos may come from anybody, with requests to a server."""
  (tmp_path / 'a.avi').write_bytes(make_file('avi'))
  monkeypatch.chdir(tmp_path)
  with pytest.raises(ConfigError, match='not a readable video'):
    video_files.decode(b"ffconcat version 1.0\nfile 'a.avi'\n")


@pytest.mark.parametrize('name', FORMATS)
def test_some_frames_are_those_of_all(name):
  data = make_file(name)
  outline = video_files.read_outline(data)
  rate = 10 if name in ('GIF', 'WEBP', 'PNG') else 5
  assert outline == video_files.Outline(5, rate, 32, 16)
  assert not video_files.is_still(data)
  every = video_files.decode(data)
  some = list(video_files.decode_some(data, [1, 4]))
  np.testing.assert_array_equal(some, [every[1], every[4]])
  with pytest.raises(ConfigError, match='6 frames or more, but 1 of the 2'):
    list(video_files.decode_some(data, [4, 5]))


def test_an_animation_has_the_rate_of_its_durations():
  frames = [PIL.Image.new('L', (7, 5), level) for level in LEVELS]
  file = io.BytesIO()
  frames[0].save(
    file, 'GIF', save_all=True, append_images=frames[1:], duration=[200] * 5
  )
  assert video_files.read_outline(file.getvalue()).rate == 5.0


def test_a_frame_is_too_short_for_a_step_of_two():
  outline = video_files.Outline(1, 5.0, 8, 8)
  with pytest.raises(ConfigError, match='a video of 1 frames is too short'):
    video_files.sample_frames(outline, 2.0, 4, 768, 2)
