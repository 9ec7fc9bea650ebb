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
            (layer-level fusion)
  linear    a linear layer for each sense, concatenation, one dense layer, as
            tutorials have it
  joint     encoders of `feature` in one space, where they are averaged (joint
            embedding)
  align     `joint`, and the embeddings of an event's senses are also brought
            together (alignment); the senses are independent of each other, so
            there is nothing that alignment could find
  fusion    encoders of `feature` whose tokens attend to each other (fusion)

Not yet run at full length; `:feature,runlocal` and the others shrink to 300
steps. `benchmarks/fusion_table.py` compares all fusions on this data.
"""

import ml_collections

from mmjax.config import variants

WIDTH = 64
TRANSFORMER = dict(width=WIDTH, depth=2, num_heads=4, mlp_dim=4 * WIDTH)
SENSES = ('image', 'sound', 'clip')
SPECTROGRAM = dict(num_mels=32, n_fft=256, hop=80)
VARIANTS = ('feature', 'model', 'layer', 'linear', 'joint', 'align', 'fusion')


def get_config(arg: str = 'feature') -> ml_collections.ConfigDict:
  """Returns the config of one variant.

  Args:
    arg: one of `VARIANTS`, with `runlocal` for 300 steps: 'layer,runlocal'.
  """
  chosen = variants.chosen(arg, 'runlocal', one_of=VARIANTS)
  (variant,) = chosen - {'runlocal'}
  config = ml_collections.ConfigDict()
  config.experiment = 'multimodal'
  config.seed = 0

  config.data = dict(
    name='shapes_senses',
    image_size=48,
    features=dict(
      sound=dict(kind='sound', rate=4000, seconds=1.1),
      clip=dict(kind='video', number=6, size=24),
      event=dict(kind='category'),
    ),
  )
  config.model = dict(
    name='multimodal',
    encoders=_ENCODERS.get(variant, _make_encoders)(),
    fusion=dict(name='pooled_concat', width=WIDTH),
  )
  config.tasks = dict(classify=dict(target='event'))
  config.optimizer = dict(
    name='adamw', lr=1e-3, weight_decay=0.05, warmup_steps=50
  )
  config.train = dict(steps=1000, batch_size=64, log_every=50)
  config.eval = dict(batch_size=100)

  if variant == 'layer':
    config.model.fusion = dict(
      name='concat', width=WIDTH, depth=1, num_heads=4, mlp_dim=2 * WIDTH
    )
    config.model.fuse_at = (1, 'output')
  if variant in ('joint', 'align'):
    config.model.fusion.name = 'mean'
  if variant == 'align':
    config.model.embed_dim = WIDTH
    config.tasks.align = dict(fields=SENSES)
  if variant == 'fusion':
    config.model.fusion = dict(
      name='concat', width=WIDTH, depth=1, num_heads=4, mlp_dim=2 * WIDTH
    )
  if 'runlocal' in chosen:
    config.train.steps = 300
  return config


def _make_encoders() -> dict:
  return dict(
    image=dict(
      name='resnet',
      stages=(1, 2),
      width=WIDTH // 2,
      block='basic',
      stem='patch',
      patch_size=4,
    ),
    sound=dict(
      name='audio_transformer', **TRANSFORMER, spectrogram=SPECTROGRAM
    ),
    clip=dict(
      name='video_transformer', **TRANSFORMER, patch_size=8, tubelet_size=2
    ),
  )


def _make_vgg_and_gru() -> dict:
  return dict(
    image=dict(name='vgg', stages=(1, 1, 1), width=WIDTH // 2),
    sound=dict(
      name='recurrent_series',
      width=WIDTH,
      depth=1,
      pooling='last',
      spectrogram=SPECTROGRAM,
    ),
    clip=dict(
      name='frame_encoder',
      width=WIDTH,
      depth=1,
      num_heads=4,
      mlp_dim=4 * WIDTH,
      image=dict(name='vgg', stages=(1, 1), width=WIDTH // 2),
    ),
  )


def _make_transformers() -> dict:
  encoders = _make_encoders()
  encoders['image'] = dict(name='vit', patch_size=8, **TRANSFORMER)
  return encoders


def _make_linear_encoders() -> dict:
  """One linear layer a sense: transformers without blocks, on one patch."""
  plain = dict(width=WIDTH, depth=0, num_heads=1, mlp_dim=WIDTH)
  return dict(
    image=dict(name='vit', patch_size=48, **plain),
    sound=dict(
      name='patched_series',
      patch_size=55,
      stride=55,
      channels='mixed',
      **plain,
      spectrogram=SPECTROGRAM,
    ),
    clip=dict(name='video_transformer', patch_size=24, tubelet_size=6, **plain),
  )


_ENCODERS = {
  'model': _make_vgg_and_gru,
  'layer': _make_transformers,
  'linear': _make_linear_encoders,
}
