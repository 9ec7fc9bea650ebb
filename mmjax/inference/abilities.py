"""What a model can do for `mmjax predict`: tasks of runs, kinds of published.

A run's abilities are its tasks. Those of a published model have the same
`ability` and `predict_use`, and are found by its class.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mmjax import models, pretrained, tasks
from mmjax.errors import ConfigError
from mmjax.inference import encoders
from mmjax.inference import opened as opened_lib
from mmjax.pretrained import (
  blip2,
  classifiers,
  dual_encoders,
  encodec,
  families,
  image_text_models,
  language_models,
  paligemma,
  qwen2_audio,
  speech_recognizers,
  text_encoders,
  vision_language,
)

_SHOWN = 5
# A question as models without a chat template were trained on it, with {} for
# the words.
_PROMPTS: dict[type, str] = {
  blip2.Model: 'Question: {} Answer:',
  paligemma.Model: 'answer en {}',
}


@dataclasses.dataclass(frozen=True)
class Ability:
  """Something that a published model can do.

  Attributes:
    ability: a verb phrase, as that of tasks.
    predict_use: the flag of `mmjax predict` that asks for it.
    needs: the input that it needs: 'image', 'sound', or '' for none.
  """

  ability: str
  predict_use: tasks.PredictUse
  needs: str = 'image'


@dataclasses.dataclass(frozen=True)
class Published:
  """A published model, as `mmjax predict` uses runs.

  Attributes:
    model: the model.
    name: its folder or name.
    max_new_tokens: largest number of tokens to write; None for the model's own.
  """

  model: pretrained.Pretrained
  name: str
  max_new_tokens: int | None = None

  @functools.cached_property
  def tasks(self) -> Mapping[str, Ability]:
    """Abilities by name."""
    return dict(_list(self.model))

  @property
  def inputs(self) -> tuple[str, ...]:
    """Names of the inputs that the model reads."""
    return tuple(dict.fromkeys(a.needs for a in self.tasks.values() if a.needs))

  def unable(self, what: str) -> str:
    """The message that the model can't do what a flag asks for.

    Args:
      what: abilities of runs that the flag asks for.
    """
    del what
    able = ' and '.join(ability.ability for ability in self.tasks.values())
    kind = families.name_kind(self.model.config)
    if not able and encoders.list_encoders(
      opened_lib.Opened(self.name, self.model)
    ):
      able = 'encode, with `mmjax embed`'
    return (
      f'the model ({kind}) cannot do that; it can {able or "do nothing else"}'
    )


def _list(model: pretrained.Pretrained) -> Iterator[tuple[str, Ability]]:
  """Abilities of a published model by name."""
  if isinstance(model, dual_encoders.PublishedDualEncoder):
    yield 'similarity', _make('rank texts by an image', 'text', _rank)
  elif isinstance(model, image_text_models.PublishedImageTextModel):
    yield model.task, _IMAGE_TEXT[model.task]
  elif isinstance(model, vision_language.PublishedVisionLanguage):
    if isinstance(model, blip2.Model):
      yield 'caption', _IMAGE_TEXT['caption']
    yield 'answer', _make('answer a question', 'question', _chat)
  elif isinstance(model, qwen2_audio.Model):
    yield 'answer', _make('answer a question', 'question', _listen, 'sound')
  elif isinstance(model, speech_recognizers.PublishedSpeechRecognizer):
    yield 'transcribe', _make('transcribe speech', '', _transcribe, 'sound')
  elif isinstance(model, encodec.Model):
    yield (
      'reconstruct',
      _make(
        'encode sounds and decode them', '', _reconstruct, 'sound', play=_play
      ),
    )
  elif isinstance(model, language_models.PublishedWriter):
    encodes = isinstance(model, text_encoders.PublishedTextEncoder)
    if not encodes or isinstance(model.module, models.TextToText):
      yield 'continue', _make('continue a text', 'text', _continue, '')
    if isinstance(model, language_models.PublishedLanguageModel):
      yield 'answer', _make('answer a question', 'question', _chat, '')
  elif isinstance(model, classifiers.PublishedClassifier):
    needs = {
      classifiers.PublishedImageEncoder: 'image',
      classifiers.PublishedAudioEncoder: 'sound',
    }
    for cls, name in needs.items():
      if isinstance(model, cls) and model.module.num_classes:
        yield 'classify', _make('classify', '', _classify, name)


def _make(
  ability: str,
  flag: str,
  lines: Callable[..., list[str]],
  needs: str = 'image',
  **outputs: Callable[..., Any],
) -> Ability:
  """An ability; `lines` takes (model, input, texts, settings of writing)."""

  def make_lines(
    published: Published,
    inputs: Mapping[str, Any],
    texts: Sequence[str],
    beam_size: int | None,
  ) -> list[str]:
    if needs and needs not in inputs:
      raise ConfigError(
        f'{published.name}: to {ability} needs {needs}, not only '
        f'{", ".join(inputs) or "texts"}; add --{needs}=FILE'
      )
    # What isn't given is that of the model's files.
    settings = {} if beam_size is None else {'beam_size': beam_size}
    if published.max_new_tokens is not None:
      settings['max_new_tokens'] = published.max_new_tokens
    return lines(published.model, inputs.get(needs), list(texts), settings)

  use = tasks.PredictUse(flag, make_lines, needs_inputs=bool(needs), **outputs)
  return Ability(ability, use, needs)


def _rank(
  model: Any, image: Any, texts: list[str], settings: dict[str, int]
) -> list[str]:
  """Cosines, and CLIP's probabilities of the texts or SigLIP's of each."""
  del settings
  ids, mask = model.tokenize(texts)
  batch = {'image': model.preprocess([image]), 'text': ids, 'text_mask': mask}
  out = model.jit_method('__call__', train=False)(model.params, batch)
  cosines = (out['image_embedding'] @ out['text_embedding'].T)[0]
  logits = out['logit_scale'] * cosines
  if 'logit_bias' in out:
    probabilities = jax.nn.sigmoid(logits + out['logit_bias'])
  else:
    probabilities = jax.nn.softmax(logits)
  cosines, probabilities = np.asarray(cosines), np.asarray(probabilities)
  return [
    'cosine    prob  text',
    *(
      f'{cosines[i]:6.3f}  {probabilities[i]:6.1%}  {texts[i]}'
      for i in np.argsort(-cosines)
    ),
  ]


def _match(
  model: Any, image: Any, texts: list[str], settings: dict[str, int]
) -> list[str]:
  del settings
  found = np.asarray(model.match([image] * len(texts), texts))
  ranked = (f'{found[i]:6.1%}  {texts[i]}' for i in np.argsort(-found))
  return ['  prob  text', *ranked]


def _caption(
  model: Any, image: Any, texts: list[str], settings: dict[str, int]
) -> list[str]:
  del texts
  return model.caption([image], **settings)


def _answer(
  model: Any, image: Any, texts: list[str], settings: dict[str, int]
) -> list[str]:
  return model.answer([image], texts, **settings)


def _chat(
  model: Any, image: Any, texts: list[str], settings: dict[str, int]
) -> list[str]:
  for cls, prompt in _PROMPTS.items():
    if isinstance(model, cls):
      prompts = [prompt.replace('{}', text) for text in texts]
      return model.generate([image], prompts, **settings)
  parts = [] if image is None else [{'type': 'image', 'image': image}]
  return [
    model.chat([{'role': 'user', 'content': [*parts, text]}], **settings)
    for text in texts
  ]


def _listen(
  model: Any, sound: Any, texts: list[str], settings: dict[str, int]
) -> list[str]:
  part = {'type': 'audio', 'audio': sound}
  return [
    model.chat([{'role': 'user', 'content': [part, text]}], **settings)
    for text in texts
  ]


def _continue(
  model: Any, image: Any, texts: list[str], settings: dict[str, int]
) -> list[str]:
  del image
  return model.generate(texts, **settings)


def _transcribe(
  model: Any, sound: Any, texts: list[str], settings: dict[str, int]
) -> list[str]:
  del texts
  if settings.get('beam_size', 1) > 1:
    raise ConfigError(
      f'--beam_size={settings["beam_size"]}: speech is transcribed greedily; '
      'leave it out'
    )
  return model.transcribe([sound], max_tokens=settings.get('max_new_tokens'))


def _classify(
  model: Any, value: Any, texts: list[str], settings: dict[str, int]
) -> list[str]:
  del texts, settings
  (found,) = model.classify([value], top=_SHOWN)
  return ['  prob  class', *(f'{p:6.1%}  {label}' for label, p in found)]


def _reconstruct(
  model: Any, sound: Any, texts: list[str], settings: dict[str, int]
) -> list[str]:
  """How close the reconstruction is, at the largest bandwidth."""
  del texts, settings
  bandwidth = max(model.bandwidths)
  (true,), _ = model.preprocessor([sound])
  (found,) = model.reconstruct([sound], bandwidth)
  noise = np.square(true - found).sum() + 1e-10
  ratio = 'the sound is silent'
  if power := np.square(true).sum():
    ratio = f'{10 * np.log10(power / noise):.1f} dB signal-to-noise ratio'
  return [
    f'reconstruction at {bandwidth:g} kbit/s, of '
    f'{model.count_codebooks(bandwidth)} codebooks: {ratio}'
  ]


def _play(
  published: Published, inputs: Mapping[str, Any], texts: Sequence[str]
) -> tuple[np.ndarray, int]:
  del texts
  model = published.model
  (found,) = model.reconstruct([inputs['sound']], max(model.bandwidths))
  return found, model.preprocessor.sample_rate


# By what a checkpoint of BLIP was trained for.
_IMAGE_TEXT = {
  'caption': _make('caption an image', '', _caption),
  'answer': _make('answer a question', 'question', _answer),
  'match': _make('match texts with an image', 'text', _match),
}
