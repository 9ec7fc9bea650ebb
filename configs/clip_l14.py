"""CLIP L/14: two towers, the softmax over all pairs of the batch.

  python -m experiments.contrastive --config=configs/clip_l14.py \
    --workdir=runs/clip_l14

Sizes, batch and learning rate of Radford et al. 2021, tables 19 and 20; 427.6
million parameters. Trains on random data, to plan and to time: put a real set
and its tokenizer in place with `--config.data.name=...` and
`--config.data.tokenizer=...`.

For a v5e:16x16 slice, 128 pairs a chip; not yet run. `mmjax plan` says what it
needs, see docs/plan.md.
"""

import ml_collections


def get_config(arg: str = '') -> ml_collections.ConfigDict:
  """Returns the config; `runlocal` shrinks it to a minute on one core."""
  if arg not in ('', 'runlocal'):
    raise ValueError(f"argument {arg!r} is unknown; use 'runlocal' or none")
  config = ml_collections.ConfigDict()
  config.experiment = 'contrastive'
  config.seed = 0

  config.data = dict(
    name='synthetic/49408',
    image_size=224,
    resize='crop',
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
    text_length=77,
  )
  block = dict(activation='quick_gelu', norm_epsilon=1e-5)
  config.model = dict(
    name='dual_encoder',
    embed_dim=768,
    image=dict(
      name='vit',
      patch_size=14,
      width=1024,
      depth=24,
      num_heads=16,
      mlp_dim=4096,
      class_token=True,
      pooling='first',
      patch_bias=False,
      pre_norm=True,
      block=block,
      remat='full',
    ),
    text=dict(
      name='transformer',
      width=768,
      depth=12,
      num_heads=12,
      mlp_dim=3072,
      causal=True,
      pooling='last',
      block=block,
      remat='full',
    ),
  )
  config.objectives = dict(contrastive=dict(kind='softmax', weight=1.0))
  config.optimizer = dict(
    name='adamw',
    lr=4e-4,
    b1=0.9,
    b2=0.98,
    eps=1e-6,
    schedule='cosine',
    warmup_steps=2000,
    weight_decay=0.2,
  )
  config.train = dict(
    steps=32 * 400_000_000 // 32_768,  # 32 epochs of 400 million pairs.
    batch_size=32_768,
    dtype='bfloat16',
    log_every=100,
    checkpoint_every=5_000,
  )
  config.mesh = dict(data=-1, fsdp=16)
  config.eval = dict(batch_size=512)

  if arg == 'runlocal':
    config.data.name = 'synthetic'
    config.data.image_size = 4 * config.model.image.patch_size
    for tower in (config.model.image, config.model.text):
      tower.update(width=64, depth=2, num_heads=4, mlp_dim=128)
    config.train.update(steps=40, batch_size=32, log_every=10)
    config.train.update(dtype='float32', checkpoint_every=0)
    config.optimizer.warmup_steps = 4
    config.mesh.fsdp = 1
    config.eval.update(batch_size=32, num_examples=64)
  return config
