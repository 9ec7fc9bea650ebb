"""Videos and animations are decoded, damaged ones refused."""

import io
import sys

import av
import numpy as np
import PIL.Image
import pytest

from mmjax.data import video_files
from mmjax.errors import ConfigError

LEVELS = (0, 60, 120, 180, 240)


def make_animation(format: str) -> bytes:
  frames = [PIL.Image.new('RGB', (16, 32), (n, n, n)) for n in LEVELS]
  file = io.BytesIO()
  frames[0].save(
    file, format, save_all=True, append_images=frames[1:], lossless=True
  )
  return file.getvalue()


def make_video(format: str, codec: str) -> bytes:
  file = io.BytesIO()
  with av.open(file, 'w', format=format) as container:
    stream = container.add_stream(codec, rate=5)
    stream.width, stream.height, stream.pix_fmt = 16, 32, 'yuv420p'
    for level in LEVELS:
      image = np.full((32, 16, 3), level, np.uint8)
      frame = av.VideoFrame.from_ndarray(image, format='rgb24')
      container.mux(stream.encode(frame))
    container.mux(stream.encode())
  return file.getvalue()


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
