"""Published models that transcribe speech."""

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mmjax.errors import ConfigError
from mmjax.pretrained import (
  base,
  generation_keys,
  generation_settings,
  preprocess_audio,
  processors,
)
from mmjax.types import TokenVectors

TASK = 'transcribe'


class PublishedSpeechRecognizer(base.Pretrained):
  """Whisper and similar models.

  A sound is the path of a .wav file, or floats [N] in -1..1 at the rate of
  `preprocessor.sample_rate`.
  """

  @functools.cached_property
  def preprocessor(self) -> preprocess_audio.AudioPreprocessor:
    """The preprocessor that turns sounds into spectrograms."""
    return preprocess_audio.AudioPreprocessor.from_config(
      *self.find_preprocessing(processors.SOUNDS)
    )

  @functools.cached_property
  def generation(self) -> Mapping[str, Any]:
    """Settings of generation_config.json, or of config.json without it.

    Ids that the former lacks are taken from the latter.
    """
    settings, _ = generation_settings.read(self.files, self.config)
    names = generation_keys.IDS
    if generation_settings.FILE not in self.files:
      names += generation_keys.SPEECH
    return {
      **{k: self.config[k] for k in names if k in self.config},
      **settings,
    }

  def special_id(self, name: str) -> int:
    """A special id.

    Raises:
      ConfigError: if neither file has it.
    """
    value = self.generation.get(name)
    if not isinstance(value, int):
      raise ConfigError(
        f'neither {generation_settings.FILE} nor config.json has an id for '
        f'{name}, but {value!r}; put in the published ones'
      )
    return value

  @functools.cached_property
  def languages(self) -> Mapping[str, int]:
    """Code of each language ('en') -> its id; empty if monolingual."""
    tokens = self.generation.get('lang_to_id') or {}
    return {name.strip('<|>'): token for name, token in tokens.items()}

  def encode_audio(self, sounds: Any) -> TokenVectors:
    """Encodes one or several sounds that fit in one window to `TokenVectors`.

    Sounds are padded with silence, which is encoded too.

    Raises:
      ConfigError: if a sound is longer than a window.
    """
    sounds = [
      self.preprocessor.read_samples(sound) for sound in base.as_list(sounds)
    ]
    windows = [self.preprocessor.cut_windows(samples) for samples in sounds]
    for samples, sound_windows in zip(sounds, windows, strict=True):
      if len(sound_windows) > 1:
        seconds = len(samples) / self.preprocessor.sample_rate
        raise ConfigError(
          f'a sound of {seconds:.1f} seconds is longer than a window '
          f'of {self.preprocessor.seconds}; cut it'
        )
    return self._encode(np.concatenate(windows))

  def detect_language(self, sounds: Any) -> list[str]:
    """Detects the language of each sound by its first window.

    Returns:
      The code of each language.

    Raises:
      ConfigError: if the model is monolingual.
    """
    if not self.languages:
      raise ConfigError(
        f'{generation_settings.FILE} has no lang_to_id: the model knows one '
        'language alone'
      )
    firsts = [
      self.preprocessor.cut_windows(self.preprocessor.read_samples(sound))[:1]
      for sound in base.as_list(sounds)
    ]
    return self._detect(np.concatenate(firsts), 1)

  def transcribe(
    self,
    sounds: Any,
    *,
    language: str | None = None,
    task: str | None = None,
    batch_size: int = 8,
    max_tokens: int | None = None,
  ) -> list[str]:
    """Transcribes one or several sounds, greedily and without timestamps.

    Sounds longer than a window (30 seconds) are transcribed window by window;
    a word on the border can be lost.

    Args:
      sounds: paths of .wav files, or floats [N] in -1..1.
      language: code of the spoken language, such as 'en'; None for that of
        generation_config.json, or else detection.
      task: 'transcribe', or 'translate' into English; None for that of
        generation_config.json, or else 'transcribe'.
      batch_size: windows in a batch.
      max_tokens: largest number of tokens for a window; None for that of
        generation_config.json, or else the model's largest.

    Returns:
      The text of each sound.

    Raises:
      ConfigError: for a language or task that the model doesn't know, or a
        setting of generation_config.json that mmjax refuses.
    """
    windows = [
      self.preprocessor.cut_windows(self.preprocessor.read_samples(sound))
      for sound in base.as_list(sounds)
    ]
    if not windows:
      return []
    starts = np.cumsum([0, *(len(sound_windows) for sound_windows in windows)])
    flat = np.concatenate(windows)
    language = language or self.default_language()
    if self.languages and language is None:
      firsts = self._detect(flat[starts[:-1]], batch_size)
    else:
      firsts = [language] * len(windows)
    prompts = np.asarray(
      [
        self.prompt(language, task)
        for language, sound_windows in zip(firsts, windows, strict=True)
        for _ in range(len(sound_windows))
      ]
    )
    texts = []
    for part, rows in _batches(flat, batch_size):
      texts += self._write(part, prompts[rows], max_tokens)
    return [
      ' '.join(text for text in texts[start:end] if text)
      for start, end in itertools.pairwise(starts)
    ]

  def default_language(self) -> str | None:
    """Code of the language that the model's folder names; None without one."""
    raise NotImplementedError

  def prompt(self, language: str | None, task: str | None) -> Sequence[int]:
    """Ids at the beginning of each text."""
    raise NotImplementedError

  def text(self, ids: Sequence[int]) -> str:
    """Decodes ids without special tokens, and strips spaces."""
    return self.tokenizer.decode(ids, skip_special_tokens=True).strip()

  def _encode(self, windows: np.ndarray) -> TokenVectors:
    spectrogram = self.preprocessor.spectrogram(windows)
    return self.jit_method('encode_audio')(self.params, spectrogram)

  def _detect(self, windows: np.ndarray, batch_size: int) -> list[str]:
    codes, ids = zip(*self.languages.items(), strict=True)
    start = self.special_id('decoder_start_token_id')
    languages = []
    for part, rows in _batches(windows, batch_size):
      prompt = np.full((len(part), 1), start, np.int32)
      logits = self.jit_method('logits_after')(
        self.params, prompt, self._encode(part)
      )
      best = np.asarray(logits)[:, list(ids)].argmax(axis=1)
      languages += [codes[i] for i in best[: len(windows[rows])]]
    return languages

  def _write(
    self, windows: np.ndarray, prompts: np.ndarray, max_tokens: int | None
  ) -> list[str]:
    """Generates texts of windows; those without a prompt are padding."""
    number = len(prompts)
    fill = np.repeat(prompts[:1], len(windows) - number, axis=0)
    prompts = np.concatenate([prompts, fill]).astype(np.int32)
    end = self.special_id('eos_token_id')
    file = (
      generation_settings.FILE
      if generation_settings.FILE in self.files
      else 'config.json'
    )
    arguments = generation_settings.arguments(
      self.generation, file, {}, eos_ids=(end,), speech=True
    )
    most = self.module.decoder.max_length - prompts.shape[1]
    if max_tokens is None and not any(
      map(self.generation.get, generation_keys.LENGTHS)
    ):
      max_tokens = most
    max_new_tokens = generation_settings.find_max_new_tokens(
      self.generation, file, max_tokens, prompts.shape[1]
    )
    written = self.jit_method(
      'generate',
      text_kind='transcript',
      max_new_tokens=min(max_new_tokens, most),
      eos_id=end,
      pad_id=end,
      **arguments,
    )(self.params, {'audio': self._encode(windows), 'decoder_prompt': prompts})
    tokens, mask = np.asarray(written.tokens), np.asarray(written.mask)
    return [self.text(tokens[i][mask[i]].tolist()) for i in range(number)]


def _batches(
  windows: np.ndarray, size: int
) -> Iterator[tuple[np.ndarray, slice]]:
  """Yields batches of windows, and the slice of each batch.

  The last batch is padded with silence, so that one program suffices.
  """
  size = min(size, len(windows))
  for start in range(0, len(windows), size):
    part = windows[start : start + size]
    fill = np.zeros((size - len(part), *part.shape[1:]), part.dtype)
    yield np.concatenate([part, fill]), slice(start, start + len(part))
