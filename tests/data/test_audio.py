"""Sound files."""

import contextlib
import io
import sys
import wave

import numpy as np
import pytest
import soundfile

from mmjax.data import audio
from mmjax.errors import ConfigError


def _write_wav(path, samples, width, rate=16_000, channels=1):
  scale = 2 ** (8 * width - 1)
  whole = np.round(samples * scale).clip(-scale, scale - 1).astype('<i8')
  if width == 1:
    whole = whole + 128
  with wave.open(str(path), 'wb') as file:
    file.setnchannels(channels)
    file.setsampwidth(width)
    file.setframerate(rate)
    raw = whole.reshape(-1).astype('<i8').view(np.uint8).reshape(-1, 8)
    file.writeframes(raw[:, :width].tobytes())
  return path


@pytest.mark.parametrize('width', [1, 2, 3, 4])
def test_every_width_is_read(width, tmp_path):
  samples = np.asarray([0.0, 0.5, -0.5, -1.0, 0.25, -0.75])
  got = audio.read(_write_wav(tmp_path / 'a.wav', samples, width), 16_000)
  assert got.dtype == np.float32
  np.testing.assert_array_equal(got, samples)


def test_channels_are_averaged(tmp_path):
  samples = np.asarray([[0.5, 0.25], [-0.5, 0.0], [0.0, 0.75]])
  path = _write_wav(tmp_path / 'a.wav', samples, 2, channels=2)
  np.testing.assert_array_equal(audio.read(path, 16_000), [0.375, -0.25, 0.375])


@pytest.mark.parametrize('rate', [8000, 22_050, 44_100])
def test_another_rate_keeps_a_tone(rate, tmp_path):
  tone = lambda rate: 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
  got = audio.read(_write_wav(tmp_path / 'a.wav', tone(rate), 2, rate), 16_000)
  assert got.shape == (16_000,)
  # Away from the ends; the filter keeps 440 Hz to half a percent.
  np.testing.assert_allclose(got[500:-500], tone(16_000)[500:-500], atol=2.5e-3)


def test_frequencies_above_the_new_rate_are_removed():
  high = np.sin(2 * np.pi * 11_000 * np.arange(44_100) / 44_100)
  got = audio.resample(high, 44_100, 16_000)
  assert np.abs(got[500:-500]).max() < 5e-3


@pytest.mark.parametrize('format', ['WAV', 'FLAC', 'OGG', 'MP3', 'AIFF'])
def test_other_formats_keep_a_tone(format):
  tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
  file = io.BytesIO()
  subtype = 'FLOAT' if format == 'WAV' else None
  samples = np.stack([tone, tone], axis=1)
  soundfile.write(file, samples, 16_000, format=format, subtype=subtype)
  got, rate = audio.decode(file.getvalue())
  assert rate == 16_000 and got.dtype == np.float32
  spectrum = np.abs(np.fft.rfft(got[:16_000]))
  assert spectrum.argmax() == 440
  data = file.getvalue()
  with pytest.raises(ConfigError, match='not a readable sound'):
    audio.decode(data[:20])
  rng = np.random.default_rng(0)
  for _ in range(20):  # Damaged anywhere, nothing else is raised.
    changed = np.frombuffer(data, np.uint8).copy()
    spots = rng.integers(0, min(len(changed), 400), 9)
    changed[spots] = rng.integers(0, 256, 9)
    changed = changed[: int(rng.integers(len(changed)))].tobytes()
    with contextlib.suppress(ConfigError):
      assert len(audio.decode(changed)[0])


@pytest.mark.parametrize(
  'data, message',
  [
    (b'', r'not a readable sound \(0 bytes'),
    (b'ID3' + bytes(50), r"not a readable sound \(53 bytes.*b'ID3"),
    (audio.encode_wave(np.zeros(0), 8000), 'the sound has no samples'),
    (audio.encode_wave(np.ones(99), 8000)[:-9], 'cut: it has 94 of 99 samples'),
  ],
)
def test_damaged_sounds_are_refused(data, message, tmp_path):
  (tmp_path / 'a.wav').write_bytes(data)
  with pytest.raises(ConfigError, match=rf'a\.wav: .*{message}'):
    audio.read(tmp_path / 'a.wav', 16_000)


def test_a_stream_of_unknown_length_is_read():
  data = bytearray(audio.encode_wave(np.ones(99), 8000))
  data[4:8] = data[40:44] = b'\xff\xff\xff\xff'
  assert len(audio.decode(bytes(data))[0]) == 99


def test_without_the_package_the_message_names_it(monkeypatch):
  file = io.BytesIO()
  soundfile.write(file, np.zeros(9), 8000, format='FLAC')
  monkeypatch.setitem(sys.modules, 'soundfile', None)
  assert len(audio.decode(audio.encode_wave(np.zeros(9), 8000))[0]) == 9
  with pytest.raises(ConfigError, match=r'soundfile: pip .*mmjax\[sound\]'):
    audio.decode(file.getvalue())


@pytest.mark.parametrize('rates', [(44_100, 16_000), (8000, 16_000), (7, 7)])
def test_resampled_samples_are_counted_without_resampling(rates):
  for number in (1, 441, 997):
    made = audio.resample(np.zeros(number, np.float32), *rates)
    assert audio.count_resampled(number, *rates) == len(made)
