r"""SigLIP So400m/14: two compute-optimal towers and a sigmoid loss.

  python -m experiments.contrastive --config=configs/siglip_so400m.py \
    --workdir=runs/siglip_so400m

Towers of Alabdulmohsin et al. 2023, table 2; loss, batch and optimizer of Zhai
et al. 2023, section 4; 877 million parameters. Trains on random data, to plan
and to time: put a real set and its tokenizer in place with
`--config.data.name=...` and `--config.data.tokenizer=...`.

For a v5e:16x16 slice, 128 pairs a chip; not yet run. `mmjax plan` says what it
needs, see docs/plan.md.
"""

import ml_collections

from mmjax.config import variants


def get_config(arg: str = '') -> ml_collections.ConfigDict:
  """Returns the config; `runlocal` shrinks it to a minute on one core."""
  chosen = variants.chosen(arg, 'runlocal')
  config = ml_collections.ConfigDict()
  config.experiment = 'contrastive'
  config.seed = 0

  config.data = dict(name='synthetic/32000', image_size=224, text_length=16)
  tower = dict(
    width=1152,
    depth=27,
    num_heads=16,
    mlp_dim=4304,
    block=dict(activation='gelu_tanh'),
    remat='full',
  )
  config.model = dict(
    name='dual_encoder',
    embed_dim=1152,
    project_image=None,
    project_text='affine',
    logit_scale_init=10.0,
    logit_bias_init=-10.0,
    image=dict(name='vit', patch_size=14, pooling='attention', **tower),
    text=dict(name='transformer', pooling='last', reads_padding=True, **tower),
  )
  config.tasks = dict(contrastive=dict(kind='sigmoid', weight=1.0))
  config.optimizer = dict(
    name='adamw',
    lr=1e-3,
    b1=0.9,
    b2=0.95,
    schedule='cosine',
    warmup_steps=20_000,
    weight_decay=1e-4,
  )
  config.train = dict(
    steps=9_000_000_000 // 32_768,  # Nine billion pairs.
    batch_size=32_768,
    dtype='bfloat16',
    log_every=100,
    checkpoint_every=5_000,
  )
  config.mesh = dict(data=-1, fsdp=16)
  config.eval = dict(batch_size=512)

  if 'runlocal' in chosen:
    config.data.name = 'synthetic'
    config.data.image_size = 56
    config.model.embed_dim = 64
    for part in (config.model.image, config.model.text):
      part.update(width=64, depth=2, num_heads=4, mlp_dim=128)
    config.train.update(steps=40, batch_size=32, log_every=10)
    config.train.update(dtype='float32', checkpoint_every=0)
    config.optimizer.warmup_steps = 4
    config.mesh.fsdp = 1
    config.eval.update(batch_size=32, num_examples=64)
  return config
