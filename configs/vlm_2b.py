r"""A vision-language model: SigLIP's So400m/14 before a Qwen2 of 1.5 billion.

  python -m experiments.captioning --config=configs/vlm_2b.py \
    --workdir=runs/vlm_2b

The image's 256 tokens go through two dense layers (Liu et al. 2024,
LLaVA-1.5) and stand before the caption; they attend to each other in both
directions (Beyer et al. 2024, PaliGemma). Tower of Alabdulmohsin et al. 2023,
table 2, decoder of Yang et al. 2024 (Qwen2, table 1); 1.96 billion parameters.
Trains from scratch on random data, to plan and to time: put a real set and its
tokenizer in place with `--config.data.name=...` and
`--config.data.tokenizer=...`.

For a v5e:16x16 slice, 8 images a chip; not yet run. `mmjax plan` says what it
needs, see docs/plan.md.
"""

import ml_collections

from mmjax.config import variants


def get_config(arg: str = '') -> ml_collections.ConfigDict:
  """Returns the config; `runlocal` shrinks it to a minute on one core."""
  chosen = variants.chosen(arg, 'runlocal')
  config = ml_collections.ConfigDict()
  config.experiment = 'captioning'
  config.seed = 0

  config.data = dict(name='synthetic/151936', image_size=224, text_length=128)
  config.model = dict(
    name='image_first',
    prefix_lm=True,
    vision=dict(
      name='vit',
      patch_size=14,
      width=1152,
      depth=27,
      num_heads=16,
      mlp_dim=4304,
      block=dict(activation='gelu_tanh'),
      remat='dots',
    ),
    projector=dict(name='mlp', width=1536, mlp_dim=1536),
    decoder=dict(
      name='text',
      width=1536,
      depth=28,
      num_heads=12,
      mlp_dim=8960,
      cross_attention=False,
      positions='none',
      block=dict(
        num_kv_heads=2,
        norm='rmsnorm',
        activation='silu',
        gated=True,
        rope_theta=1e6,
        attention_bias=('query', 'key', 'value'),
        mlp_bias=False,
      ),
      remat='dots',
    ),
  )
  config.tasks = dict(captioning=dict(weight=1.0))
  config.optimizer = dict(
    name='adamw',
    lr=3e-4,
    b1=0.9,
    b2=0.95,
    schedule='cosine',
    warmup_steps=2_000,
    weight_decay=0.1,
  )
  config.train = dict(
    steps=100_000,
    batch_size=2_048,
    dtype='bfloat16',
    log_every=100,
    checkpoint_every=5_000,
  )
  config.mesh = dict(data=-1, fsdp=16)
  config.eval = dict(batch_size=256)

  if 'runlocal' in chosen:
    config.data.update(name='synthetic', image_size=56, text_length=16)
    for part in (config.model.vision, config.model.decoder):
      part.update(width=64, depth=2, num_heads=4, mlp_dim=128)
    config.model.projector.update(width=64, mlp_dim=64)
    config.train.update(steps=40, batch_size=32, log_every=10)
    config.train.update(dtype='float32', checkpoint_every=0)
    config.optimizer.warmup_steps = 4
    config.mesh.fsdp = 1
    config.eval.update(batch_size=32, num_examples=32)
  return config
