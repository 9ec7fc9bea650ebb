"""The parts of models that a config can name, and what belongs to each.

Names become classes in the dicts below and, for encoders, in
`encoders.ENCODERS`.
"""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

from mmjax import decoders, encoders, fusion
from mmjax import nn as mnn
from mmjax.models import (
  diffusion_transformer,
  dual_encoder,
  image_autoencoder,
  prior,
  sound_autoencoder,
  token_codes,
)

PROJECTORS = {
  'mlp': mnn.Mlp,
  'linear': mnn.Linear,
  'query_transformer': mnn.QueryTransformer,
  'resampler': mnn.Resampler,
  'average_pool': mnn.AveragePool,
  'pixel_shuffle': mnn.PixelShuffle,
}
_IMAGE_DATA = ('image_size', 'resize', 'mean', 'std')
_TEXT_DATA = ('tokenizer', 'lower_case')


@dataclasses.dataclass(frozen=True)
class Part:
  """A part of a model, such as its image encoder.

  Attributes:
    classes: name in a config -> module class.
    data: settings of a config's `data` that a trained part needs unchanged.
    lengths: settings of a config's `data` that its `max_length` must reach.
    aliases: names of the same part in other models.
    cross_attention: whether the part attends to a context unless the config
      says otherwise; None if it never does.
  """

  classes: Mapping[str, type]
  data: tuple[str, ...] = ()
  lengths: tuple[str, ...] = ()
  aliases: tuple[str, ...] = ()
  cross_attention: bool | None = None

  @property
  def uses_tokenizer(self) -> bool:
    """Whether inputs or outputs of the part are ids of a tokenizer."""
    return 'tokenizer' in self.data


PARTS = {
  'image': Part(
    encoders.ENCODERS['image'], data=_IMAGE_DATA, aliases=('vision',)
  ),
  'vision': Part(
    encoders.ENCODERS['image'], data=_IMAGE_DATA, aliases=('image',)
  ),
  'projector': Part(PROJECTORS),
  'image_projector': Part(PROJECTORS, aliases=('projector',)),
  'text': Part(
    encoders.ENCODERS['text'],
    data=_TEXT_DATA,
    lengths=('text_length',),
    cross_attention=False,
  ),
  'question': Part(
    encoders.ENCODERS['text'],
    data=_TEXT_DATA,
    lengths=('question_length',),
    aliases=('text',),
    cross_attention=False,
  ),
  'sound': Part(encoders.ENCODERS['sound'], aliases=('audio',)),
  'audio': Part(
    {'audio_transformer': encoders.AudioTransformer}, aliases=('sound',)
  ),
  'video': Part(encoders.ENCODERS['video']),
  'series': Part(encoders.ENCODERS['series']),
  'table': Part(encoders.ENCODERS['table']),
  'points': Part(encoders.ENCODERS['points']),
  'encoder': Part({'transformer': encoders.Transformer}, data=_TEXT_DATA),
  'fusion': Part(fusion.FUSIONS),
  'codebook': Part(mnn.CODEBOOKS),
  'discriminator': Part({'patch': mnn.PatchDiscriminator}),
  'autoencoder': Part(
    {'autoencoder': image_autoencoder.ImageAutoencoder}, data=_IMAGE_DATA
  ),
  'image_codes': Part({'token_codes': token_codes.TokenCodes}),
  'sound_autoencoder': Part(
    {'sound_autoencoder': sound_autoencoder.SoundAutoencoder}
  ),
  'sound_codes': Part({'token_codes': token_codes.TokenCodes}),
  'decoder': Part(
    {'text': decoders.TextDecoder},
    data=(*_TEXT_DATA, 'bos'),
    lengths=('text_length', 'answer_length'),
    cross_attention=True,
  ),
  # Of DALL-E 2.
  'towers': Part(
    {'dual_encoder': dual_encoder.DualEncoder}, data=(*_IMAGE_DATA, *_TEXT_DATA)
  ),
  'prior': Part({'prior': prior.Prior}, lengths=('text_length',)),
  'generator': Part({'dit': diffusion_transformer.DiT}, data=_IMAGE_DATA),
}

# Settings that are mappings -> their class.
NESTED = {
  'block': mnn.Block,
  'relative': mnn.RelativePositions,
  'spectrogram': encoders.FromSamples,
  'layout': mnn.SoundLayout,
}
# Fields of these classes that `build` sets.
NESTED_DERIVED = {
  'block': (
    'width',
    'num_heads',
    'mlp_dim',
    'self_attention',
    'cross_attention',
  ),
  'relative': ('num_heads', 'bidirectional'),
  'spectrogram': ('encoder', 'sample_rate'),
  'layout': (),
}

# Part whose classes encode a feature, by its kind.
ENCODER_PARTS = {
  'image': 'image',
  'images': 'video',
  'video': 'video',
  'text': 'text',
  'turns': 'text',
  'sound': 'sound',
  'series': 'series',
  'points': 'points',
  'category': 'table',
  'number': 'table',
  'vector': 'table',
}


def list_encoder_inputs(config: Mapping[str, Any]) -> tuple[str, ...]:
  """Lists the features that a model's `encoders` read.

  () for models without `encoders`, whose inputs have fixed names.
  """
  return tuple(
    dict.fromkeys(itertools.chain(*find_encoder_inputs(config).values()))
  )


def find_encoder_inputs(
  config: Mapping[str, Any],
) -> dict[str, tuple[str, ...]]:
  """The features that each of a model's `encoders` reads, by its name."""
  settings = config.get('encoders') or {}
  return {
    name: tuple(chosen.get('inputs', (name,)))
    for name, chosen in settings.items()
  }
