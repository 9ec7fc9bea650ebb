r"""Retrieval of spoken prompts by their texts, and of texts by voice.

Needs the data set `prompts`; see `benchmarks/debian_data.py`.

  python -m experiments.multimodal --config=configs/align_prompts.py \
    --workdir=runs/align_prompts

Measured on 2026-11-29, jax 0.10.2, two CPU cores as two devices (see
docs/cpus.md), shared with other work: 10 minutes. Among 122 prompts that are
not in training, of 417: R@1 0.246 from voice to text and 0.221 from text to
voice; chance is 0.008.

With `:whisper`, the voices are tokens of a frozen Whisper base, computed once
by `benchmarks/whisper_tokens.py` as the data set `prompts_whisper`:

  python -m experiments.multimodal --config=configs/align_prompts.py:whisper \
    --workdir=runs/align_prompts_whisper

The same day, as one device on cores shared with much other work: 8 minutes for
the tokens, 4 for 150 steps. Among the same 122 prompts: R@1 0.492 from voice to
text and 0.566 from text to voice.
"""

import ml_collections

from mmjax.config import variants

WIDTH = 96
TRANSFORMER = dict(width=WIDTH, num_heads=4, mlp_dim=4 * WIDTH)


def get_config(arg: str = '') -> ml_collections.ConfigDict:
  """Returns the config.

  Args:
    arg: 'whisper' for tokens of a frozen Whisper in place of the sounds,
      'runlocal' for a minute on one core, or both.
  """
  chosen = variants.chosen(arg, 'runlocal', 'whisper')
  config = ml_collections.ConfigDict()
  config.experiment = 'multimodal'
  config.seed = 0

  config.data = dict(
    name='prompts',
    text_length=96,
    tokenizer='bytes',
    eval_split='',
    features=dict(voice=dict(kind='sound', rate=8000, seconds=6.0)),
  )
  config.model = dict(
    name='multimodal',
    embed_dim=64,
    encoders=dict(
      voice=dict(
        name='audio_transformer',
        **TRANSFORMER,
        depth=2,
        strides=(2, 2),
        dropout=0.1,
        spectrogram=dict(num_mels=40, n_fft=256, hop=80),
      ),
      text=dict(name='transformer', **TRANSFORMER, depth=2, dropout=0.1),
    ),
  )
  config.tasks = dict(align=dict(features=('voice', 'text')))
  config.optimizer = dict(
    name='adamw', lr=1e-3, weight_decay=0.1, warmup_steps=50
  )
  config.train = dict(steps=450, batch_size=64, log_every=50)
  config.eval = dict(batch_size=64)

  if 'whisper' in chosen:
    config.data.name = 'prompts_whisper'
    config.train.steps = 150
    # 4 seconds, 12.5 tokens a second.
    config.data.features.voice = dict(kind='series', field='tokens', length=50)
    config.model.encoders.voice = dict(
      name='patched_series',
      **TRANSFORMER,
      depth=1,
      patch_size=1,
      stride=1,
      channels='mixed',
      instance_norm=False,
      dropout=0.1,
    )
  if 'runlocal' in chosen:
    config.train.steps = 100
  return config
