r"""Drawings with their names and spoken descriptions: three tasks on one base.

Needs the data set `stamps`; see `benchmarks/debian_data.py`.

  python -m experiments.multimodal --config=configs/stamps.py:align \
    --workdir=runs/stamps_align

`align` brings image, French name and French voice into one space, `classify`
predicts the category from them, and `translate` writes the French name from the
English one and the image.

Measured on 2026-11-29, jax 0.10.2, two CPU cores shared with much other work,
on 139 drawings of 644. No name, image or recording is in both splits.

align, 250 steps, 8 minutes as two devices. R@1 and R@10 in both directions;
chance is 0.007 and 0.07:
  voice and French name   0.226, 0.180; 0.744, 0.714
  image and French name   0.050, 0.050; 0.288, 0.281
  image and voice         0.045, 0.038; 0.271, 0.256
Two of them alone, 250 steps each, 6 to 17 minutes on one shared core
(2026-11-30). The third helps images: their R@10 is higher with it.
  `:align_without_image`, voice and French name   0.196, 0.233; 0.714, 0.744
  `:align_without_voice`, image and French name   0.058, 0.050; 0.209, 0.194
  `:align_without_french`, image and voice        0.045, 0.030; 0.256, 0.256

classify, 150 steps, 2 minutes. Accuracy; the commonest of the 16 categories
has 0.245:
  all three               0.525
  name and image          0.518      name alone     0.367
  name and voice          0.453      image alone    0.410
  image and voice         0.345      voice alone    0.216

translate, 200 steps, 1 minute: not learnt. No name is exact, with or without
the image (word errors 1.135): 505 pairs don't teach the words of new names.
"""

import functools

import ml_collections

from mmjax.config import variants

WIDTH = 96
TRANSFORMER = dict(width=WIDTH, depth=2, num_heads=4, mlp_dim=4 * WIDTH)
TEXT = dict(name='transformer', **TRANSFORMER, dropout=0.1)


def get_config(arg: str = 'align') -> ml_collections.ConfigDict:
  """Returns the config of one task.

  Args:
    arg: 'align', 'classify' or 'translate', or 'align_without_voice' and so on
      for two of the three fields; with `runlocal` for a minute on one core:
      'align,runlocal'.
  """
  chosen = variants.chosen(arg, 'runlocal', one_of=tuple(_TASKS))
  (task,) = chosen - {'runlocal'}
  config = _make_base()
  _TASKS[task](config)
  if 'runlocal' in chosen:
    config.train.steps = 60
  return config


def _make_base() -> ml_collections.ConfigDict:
  config = ml_collections.ConfigDict()
  config.experiment = 'multimodal'
  config.seed = 0

  config.data = dict(
    name='stamps',
    image_size=64,
    augment=(dict(name='random_resized_crop', scale=(0.5, 1.0)),),
    tokenizer='bytes',
    eval_split='',
  )
  config.model = dict(
    name='multimodal',
    encoders=dict(
      image=dict(
        name='resnet',
        stages=(1, 1, 1),
        width=32,
        block='basic',
        stem='patch',
        patch_size=4,
      ),
    ),
  )
  config.optimizer = dict(
    name='adamw', lr=1e-3, weight_decay=0.1, warmup_steps=50
  )
  config.train = dict(batch_size=64, log_every=50)
  config.eval = dict(batch_size=64)
  return config


def _add_name_and_voice(config: ml_collections.ConfigDict) -> None:
  config.data.features = dict(
    french=dict(
      kind='text', field='names', language='fr', length=64, as_input=True
    ),
    voice=dict(kind='sound', rate=8000, seconds=3.0),
  )
  config.model.encoders.update(
    french=TEXT,
    voice=dict(
      name='audio_transformer',
      **TRANSFORMER,
      strides=(2, 2),
      dropout=0.1,
      spectrogram=dict(num_mels=40, n_fft=256, hop=80),
    ),
  )


def _align(
  config: ml_collections.ConfigDict, *, without: str | None = None
) -> None:
  _add_name_and_voice(config)
  config.model.embed_dim = 64
  fields = [name for name in _FIELDS if name != without]
  if without:
    del config.model.encoders[without]
    if without in config.data.features:  # Images are a standard field.
      del config.data.features[without]
  config.tasks = dict(align=dict(features=fields))
  config.train.steps = 250


def _classify(config: ml_collections.ConfigDict) -> None:
  _add_name_and_voice(config)
  config.data.features.kind = dict(kind='category', field='metadata/kind')
  config.model.fusion = dict(
    name='concat', width=WIDTH, depth=1, num_heads=4, mlp_dim=2 * WIDTH
  )
  config.tasks = dict(classify=dict(target='kind'))
  config.train.steps = 150


def _translate(config: ml_collections.ConfigDict) -> None:
  config.data.features = dict(
    english=dict(
      kind='text', field='names', language='en', length=64, as_input=True
    ),
    french=dict(kind='text', field='names', language='fr', length=64),
  )
  config.model.encoders.english = TEXT
  config.model.fusion = dict(name='concat', width=WIDTH)
  config.model.decoder = dict(name='text', **TRANSFORMER, dropout=0.1)
  config.tasks = dict(translate=dict(target='french', label_smoothing=0.1))
  config.train.steps = 200


_FIELDS = ('image', 'french', 'voice')
_TASKS = {
  'align': _align,
  **{
    f'align_without_{name}': functools.partial(_align, without=name)
    for name in _FIELDS
  },
  'classify': _classify,
  'translate': _translate,
}
