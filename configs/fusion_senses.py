r"""Published ways of fusing, on events that no single sense is enough for.

  mmjax data prepare shapes_senses
  python -m experiments.multimodal --config=configs/fusion_senses.py:feature \
    --workdir=runs/fusion_senses

The class of an event in `shapes_senses` needs its image, its sound and its clip
(at best 0.063 from one, 0.25 from two). The variants differ in the encoders and
in where they are fused:

  feature   convolutional networks and a transformer, whose pooled vectors go
            through one dense layer (feature-level fusion)
  model     VGG for the image, a VGG and a transformer over the clip's frames, a
            GRU for the sound, and one dense layer (model-level fusion)
  layer     transformers that are fused after their first block and at the end
            (layer-level fusion); with `small`, a ResNet for the image
  linear    a linear layer for each sense, concatenation, one dense layer, as
            tutorials have it
  joint     encoders of `feature` in one space, where they are averaged (joint
            embedding)
  align     `joint`, and the embeddings of an event's senses are also brought
            together (alignment); the senses are independent of each other, so
            there is nothing that alignment could find
  fusion    encoders of `feature` whose tokens attend to each other (fusion)

`small` shrinks inputs and encoders of any of them, so that it learns within a
minute: `:layer,small`. `benchmarks/fusion_table.py` compares all fusions on it.

With `small`, 800 steps, 3 minutes on a loaded core, seeds 0, 1 and 2 on
2026-11-30: joint 0.918, 0.812, 0.982; align 0.796, 0.792, 0.794; fusion 0.968,
0.890, 0.770. Not yet run at full length; `:feature,runlocal` and the others
shrink to 300 steps.
"""

import ml_collections

from mmjax.config import variants

SENSES = ('image', 'sound', 'clip')
VARIANTS = ('feature', 'model', 'layer', 'linear', 'joint', 'align', 'fusion')


def get_config(arg: str = 'feature') -> ml_collections.ConfigDict:
  """Returns the config of one variant.

  Args:
    arg: one of `VARIANTS`, with `small` for small inputs and encoders, and with
      `runlocal` for 300 steps: 'layer,runlocal'.
  """
  chosen = variants.chosen(arg, 'runlocal', 'small', one_of=VARIANTS)
  (variant,) = chosen - {'runlocal', 'small'}
  is_small = 'small' in chosen
  width = 32 if is_small else 64
  config = ml_collections.ConfigDict()
  config.experiment = 'multimodal'
  config.seed = 0

  config.data = dict(
    name='shapes_senses',
    image_size=32 if is_small else 48,
    features=dict(
      sound=dict(kind='sound', rate=4000, seconds=1.1),
      clip=dict(kind='video', number=6, size=24),
      event=dict(kind='category'),
    ),
  )
  config.model = dict(
    name='multimodal',
    encoders=_ENCODERS.get(variant, _make_encoders)(width, is_small),
    fusion=dict(name='pooled_concat', width=width),
  )
  config.tasks = dict(classify=dict(target='event'))
  config.optimizer = dict(
    name='adamw', lr=1e-3, weight_decay=0.05, warmup_steps=50
  )
  config.train = dict(steps=1000, batch_size=64, log_every=50)
  config.eval = dict(batch_size=100)

  if variant in ('layer', 'fusion'):
    config.model.fusion = dict(
      name='concat', width=width, depth=1, num_heads=4, mlp_dim=2 * width
    )
  if variant == 'layer':
    config.model.fuse_at = (1, 'output')
  if variant in ('joint', 'align'):
    config.model.fusion.name = 'mean'
  if variant == 'align':
    config.model.embed_dim = width
    config.tasks.align = dict(features=SENSES)
  if is_small:
    config.optimizer.lr = 3e-3
    config.train.steps = 800
  if 'runlocal' in chosen:
    config.train.steps = 300
  return config


def _make_transformer(width: int, is_small: bool) -> dict:
  return dict(
    width=width, depth=2, num_heads=4, mlp_dim=(2 if is_small else 4) * width
  )


def _make_spectrogram(is_small: bool) -> dict:
  return dict(
    num_mels=24 if is_small else 32, n_fft=256, hop=160 if is_small else 80
  )


def _make_encoders(width: int, is_small: bool) -> dict:
  transformer = _make_transformer(width, is_small)
  return dict(
    image=dict(
      name='resnet',
      stages=(1, 1) if is_small else (1, 2),
      width=width // 2,
      block='basic',
      stem='patch',
      patch_size=4,
    ),
    sound=dict(
      name='audio_transformer',
      **transformer,
      strides=(2, 2) if is_small else (1, 2),
      spectrogram=_make_spectrogram(is_small),
    ),
    clip=dict(
      name='video_transformer',
      **transformer,
      patch_size=8,
      tubelet_size=2,
    ),
  )


def _make_vgg_and_gru(width: int, is_small: bool) -> dict:
  return dict(
    image=dict(name='vgg', stages=(1, 1, 1), width=width // 2),
    sound=dict(
      name='recurrent_series',
      width=width,
      depth=1,
      pooling='last',
      spectrogram=_make_spectrogram(is_small),
    ),
    clip=dict(
      name='frame_encoder',
      width=width,
      depth=1,
      num_heads=4,
      mlp_dim=4 * width,
      image=dict(name='vgg', stages=(1, 1), width=width // 2),
    ),
  )


def _make_transformers(width: int, is_small: bool) -> dict:
  encoders = _make_encoders(width, is_small)
  if not is_small:  # It needs more steps than the convolutions.
    transformer = _make_transformer(width, is_small)
    encoders['image'] = dict(name='vit', patch_size=8, **transformer)
  return encoders


def _make_linear_encoders(width: int, is_small: bool) -> dict:
  """One linear layer a sense: transformers without blocks, on one patch."""
  plain = dict(width=width, depth=0, num_heads=1, mlp_dim=width)
  hop = _make_spectrogram(is_small)['hop']
  frames = -(-4400 // hop)  # All of a sound: 1.1 s at 4 kHz are 4400 samples.
  return dict(
    image=dict(name='vit', patch_size=32 if is_small else 48, **plain),
    sound=dict(
      name='patched_series',
      patch_size=frames,
      stride=frames,
      channels='mixed',
      **plain,
      spectrogram=_make_spectrogram(is_small),
    ),
    clip=dict(name='video_transformer', patch_size=24, tubelet_size=6, **plain),
  )


_ENCODERS = {
  'model': _make_vgg_and_gru,
  'layer': _make_transformers,
  'linear': _make_linear_encoders,
}
