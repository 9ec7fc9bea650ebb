"""The models and parts that a config can name."""

import dataclasses
from collections.abc import Mapping
from typing import Self

from mmjax.models import (
  audio_language,
  contrastive_captioner,
  diffusion_transformer,
  dual_encoder,
  embedder,
  encoder_decoder,
  image_autoencoder,
  image_first,
  language_model,
  masked_image_transformer,
  mmdit,
  multimodal,
  pixart,
  sound_autoencoder,
  unclip,
  vision_language,
)
from mmjax.models.parts import PARTS, Part

MODELS = {
  'dual_encoder': dual_encoder.DualEncoder,
  'embedder': embedder.VisionLanguageEmbedder,
  'encoder_decoder': encoder_decoder.EncoderDecoder,
  'contrastive_captioner': contrastive_captioner.ContrastiveCaptioner,
  'image_first': image_first.ImageFirstVisionLanguage,
  'multimodal': multimodal.Multimodal,
  'interleaved_audio': audio_language.InterleavedAudioLanguage,
  'interleaved': vision_language.InterleavedVisionLanguage,
  'language_model': language_model.LanguageModel,
  'dit': diffusion_transformer.DiT,
  'pixart': pixart.PixArt,
  'mmdit': mmdit.MMDiT,
  'unclip': unclip.Unclip,
  'autoencoder': image_autoencoder.ImageAutoencoder,
  'sound_autoencoder': sound_autoencoder.SoundAutoencoder,
  'maskgit': masked_image_transformer.MaskGit,
}


@dataclasses.dataclass(frozen=True)
class Tables:
  """What a config's `model` can name.

  Attributes:
    models: name -> class of a model.
    parts: name of a part -> its classes by name, and what belongs to it.
  """

  models: Mapping[str, type]
  parts: Mapping[str, Part]

  def classes(self) -> dict[str, type]:
    """All module classes that a config can name, by name."""
    tables = self.models, *(part.classes for part in self.parts.values())
    return {name: cls for table in tables for name, cls in table.items()}

  def extend(
    self,
    models: Mapping[str, type],
    parts: Mapping[str, Mapping[str, type]],
  ) -> Self:
    """These tables with further models, and further classes of parts.

    Args:
      models: name -> class of a model.
      parts: name of a part -> name -> class.

    Raises:
      ValueError: if there is no such part, or a name stands for another class
        already.
    """
    known = self.classes()
    extended = dict(self.parts)
    for part, classes in parts.items():
      if part not in extended:
        raise ValueError(
          f'models have no part {part!r}; use one of {sorted(extended)}'
        )
      _check_new(classes, known, f'parts[{part!r}]')
      known |= classes
      extended[part] = dataclasses.replace(
        extended[part], classes={**extended[part].classes, **classes}
      )
    _check_new(models, known, 'models')
    return dataclasses.replace(
      self, models={**self.models, **models}, parts=extended
    )


def _check_new(
  classes: Mapping[str, type], known: Mapping[str, type], where: str
) -> None:
  """Refuses names that stand for other classes already."""
  for name, cls in classes.items():
    if known.get(name, cls) is not cls:
      raise ValueError(
        f'{where} has the name {name!r}, which is that of '
        f'{known[name].__name__} already; choose another'
      )


BUILT_IN = Tables(MODELS, PARTS)
