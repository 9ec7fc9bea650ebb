r"""CLIP: two towers, the softmax over all pairs of the batch.

  python -m experiments.contrastive --config=configs/clip.py:b16 \
    --workdir=runs/clip_b16
  python -m experiments.contrastive --config=configs/clip.py:l14 \
    --workdir=runs/clip_l14

Sizes, batch and learning rates of Radford et al. 2021, tables 19 and 20: 149.6
million parameters (B/16) and 427.6 million (L/14). Trains on random data, to
plan and to time: put a real set and its tokenizer in place with
`--config.data.name=...` and `--config.data.tokenizer=...`.

For a v5e:16x16 slice, 128 pairs a chip; not yet run. `mmjax plan` says what it
needs, see docs/plan.md, also for the choice of `remat`.
"""

import ml_collections

from mmjax.config import variants

IMAGE = dict(
  b16=dict(patch_size=16, width=768, depth=12, num_heads=12, mlp_dim=4 * 768),
  l14=dict(patch_size=14, width=1024, depth=24, num_heads=16, mlp_dim=4 * 1024),
)
TEXT = dict(
  b16=dict(width=512, depth=12, num_heads=8, mlp_dim=4 * 512),
  l14=dict(width=768, depth=12, num_heads=12, mlp_dim=4 * 768),
)
EMBED_DIM = dict(b16=512, l14=768)
LEARNING_RATE = dict(b16=5e-4, l14=4e-4)
# Of 128 pairs a chip of 16 GiB.
REMAT = dict(b16='dots', l14='projections')


def get_config(arg: str = 'b16') -> ml_collections.ConfigDict:
  """Returns the config.

  Args:
    arg: 'b16' or 'l14'; with ',runlocal', a minute's work for one core.
  """
  chosen = variants.chosen(arg, 'runlocal', one_of=('b16', 'l14'))
  size = 'l14' if 'l14' in chosen else 'b16'
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
  tower = dict(
    block=dict(activation='quick_gelu', norm_epsilon=1e-5),
    remat=REMAT[size],
  )
  config.model = dict(
    name='dual_encoder',
    embed_dim=EMBED_DIM[size],
    image=dict(
      name='vit',
      **IMAGE[size],
      **tower,
      class_token=True,
      pooling='first',
      patch_bias=False,
      pre_norm=True,
    ),
    text=dict(
      name='transformer',
      **TEXT[size],
      **tower,
      causal=True,
      pooling='last',
    ),
  )
  config.tasks = dict(contrastive=dict(kind='softmax', weight=1.0))
  config.optimizer = dict(
    name='adamw',
    lr=LEARNING_RATE[size],
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

  if 'runlocal' in chosen:
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
