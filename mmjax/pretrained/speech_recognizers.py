"""Published models that write down what is said."""

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mmjax.errors import ConfigError
from mmjax.pretrained import (
  base,
  generation,
  generation_keys,
  preprocess_audio,
  processors,
)
from mmjax.types import Tokens

TASK = 'transcribe'


class PublishedSpeechRecognizer(base.Pretrained):
  """Whisper and its kin.

  A sound is the path of a .wav file, or floats [N] in -1..1 at the rate of
  `preprocess.sample_rate`.
  """

  @functools.cached_property
  def preprocess(self) -> preprocess_audio.AudioPreprocessor:
    """Sounds to spectrograms."""
    return preprocess_audio.AudioPreprocessor.from_config(
      *self.preparing(processors.SOUNDS)
    )

  @functools.cached_property
  def generation(self) -> Mapping[str, Any]:
    """How to write, from generation_config.json, or config.json without it.

    Ids that the former lacks are those of the latter.
    """
    given, _ = generation.read(self.files, self.config)
    own = generation_keys.IDS
    if generation.FILE not in self.files:
      own += generation_keys.SPEECH
    return {**{k: self.config[k] for k in own if k in self.config}, **given}

  def special(self, name: str) -> int:
    """A special id.

    Raises:
      ConfigError: if neither file has it.
    """
    value = self.generation.get(name)
    if not isinstance(value, int):
      raise ConfigError(
        f'neither {generation.FILE} nor config.json has an id for {name}, '
        f'but {value!r}; put in the published ones'
      )
    return value

  @functools.cached_property
  def languages(self) -> Mapping[str, int]:
    """Token of each language by its code, 'en'; none of a monolingual model."""
    named = self.generation.get('lang_to_id') or {}
    return {name.strip('<|>'): token for name, token in named.items()}

  def encode_audio(self, sounds: Any) -> Tokens:
    """Tokens [B, N, D] of one or several sounds that fit in one window.

    The silence that fills the window up is read like the rest.

    Raises:
      ConfigError: if a sound is longer.
    """
    sounds = [self.preprocess.samples(sound) for sound in base.listed(sounds)]
    windows = [self.preprocess.windows(samples) for samples in sounds]
    for samples, cut in zip(sounds, windows, strict=True):
      if len(cut) > 1:
        seconds = len(samples) / self.preprocess.sample_rate
        raise ConfigError(
          f'a sound of {seconds:.1f} seconds is longer than the '
          f'{self.preprocess.seconds} that are read at once; cut it'
        )
    return self._encode(np.concatenate(windows))

  def detect_language(self, sounds: Any) -> list[str]:
    """The code of each sound's language, by its first window.

    Raises:
      ConfigError: if the model knows one language alone.
    """
    if not self.languages:
      raise ConfigError(
        f'{generation.FILE} has no lang_to_id: the model knows one language '
        'alone'
      )
    firsts = [
      self.preprocess.windows(self.preprocess.samples(sound))[:1]
      for sound in base.listed(sounds)
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
    """Writes down one or several sounds, greedily and without timestamps.

    A sound longer than a window (30 seconds) is read window by window, so a
    word on the border can be lost.

    Args:
      sounds: see above.
      language: the code of what is spoken, 'en'; None for what
        generation_config.json names, else it is detected.
      task: 'transcribe', or 'translate' into English; None for what
        generation_config.json names, else 'transcribe'.
      batch_size: windows that are read at once.
      max_tokens: most tokens to write a window; None for what
        generation_config.json says, or as many as the model can.

    Returns:
      A text a sound.

    Raises:
      ConfigError: for a language or task that the model doesn't know, or a
        setting of generation_config.json that mmjax refuses.
    """
    windows = [
      self.preprocess.windows(self.preprocess.samples(sound))
      for sound in base.listed(sounds)
    ]
    if not windows:
      return []
    starts = np.cumsum([0, *(len(cut) for cut in windows)])
    flat = np.concatenate(windows)
    language = language or self.default_language()
    if self.languages and language is None:
      firsts = self._detect(flat[starts[:-1]], batch_size)
    else:
      firsts = [language] * len(windows)
    prompts = np.asarray(
      [
        self.prompt(language, task)
        for language, cut in zip(firsts, windows, strict=True)
        for _ in range(len(cut))
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
    """The code of the language that the model's folder names, if it does."""
    raise NotImplementedError

  def prompt(self, language: str | None, task: str | None) -> Sequence[int]:
    """What a text begins with."""
    raise NotImplementedError

  def text(self, ids: Sequence[int]) -> str:
    """The text of ids, without special tokens and outer spaces."""
    return self.tokenizer.decode(ids, skip_special_tokens=True).strip()

  def _encode(self, windows: np.ndarray) -> Tokens:
    spectrogram = self.preprocess.spectrogram(windows)
    return self.compiled('encode_audio')(self.params, spectrogram)

  def _detect(self, windows: np.ndarray, batch_size: int) -> list[str]:
    codes, ids = zip(*self.languages.items(), strict=True)
    start = self.special('decoder_start_token_id')
    heard = []
    for part, rows in _batches(windows, batch_size):
      prompt = np.full((len(part), 1), start, np.int32)
      logits = self.compiled('logits_after')(
        self.params, prompt, self._encode(part)
      )
      best = np.asarray(logits)[:, list(ids)].argmax(axis=1)
      heard += [codes[i] for i in best[: len(windows[rows])]]
    return heard

  def _write(
    self, windows: np.ndarray, prompts: np.ndarray, max_tokens: int | None
  ) -> list[str]:
    """Texts of as many windows as there are prompts; the others fill up."""
    number = len(prompts)
    fill = np.repeat(prompts[:1], len(windows) - number, axis=0)
    prompts = np.concatenate([prompts, fill]).astype(np.int32)
    end = self.special('eos_token_id')
    file = generation.FILE if generation.FILE in self.files else 'config.json'
    asked = generation.arguments(
      self.generation, file, {}, eos_ids=(end,), speech=True
    )
    most = self.module.decoder.max_length - prompts.shape[1]
    if max_tokens is None and not any(
      map(self.generation.get, generation_keys.LENGTHS)
    ):
      max_tokens = most
    length = generation.length(
      self.generation, file, max_tokens, prompts.shape[1]
    )
    written = self.compiled(
      'generate',
      task='transcript',
      length=min(length, most),
      eos_id=end,
      pad_id=end,
      **asked,
    )(self.params, {'audio': self._encode(windows), 'prompt': prompts})
    tokens, mask = np.asarray(written.tokens), np.asarray(written.mask)
    return [self.text(tokens[i][mask[i]].tolist()) for i in range(number)]


def _batches(
  windows: np.ndarray, size: int
) -> Iterator[tuple[np.ndarray, slice]]:
  """Yields windows, as many each time, and which they are.

  The last ones are followed by silence, so that one program does for all.
  """
  size = min(size, len(windows))
  for start in range(0, len(windows), size):
    part = windows[start : start + size]
    fill = np.zeros((size - len(part), *part.shape[1:]), part.dtype)
    yield np.concatenate([part, fill]), slice(start, start + len(part))
