r"""One model that translates names of drawings between several languages.

Needs the data set `names`, which `benchmarks/debian_data.py` makes. Each
example is a name in one language, which begins with the language to write:
'<gl> Un perro.' (Johnson et al. 2017). There are 13 pairs of Spanish, Galician,
Portuguese, Asturian, and Serbian in two scripts; from Asturian to Portuguese
there is none in training. All names of a test drawing are new, in every
language.

  python -m experiments.multimodal --config=configs/translate_names.py \
    --workdir=runs/translate_names
  mmjax predict runs/translate_names --input source="<gl> Un perro."
  python -m benchmarks.name_translation --run=runs/translate_names \
    --table=names.jsonl

Measured on 2026-11-29, jax 0.10.2, two CPU cores shared with other work: 1,000
steps in 23 minutes. Test names: 0.052 exact (0.006 by chance), chrF 0.29; of
the pair that is not in training 0.024 and 0.25. It is only beginning to learn:
of Spanish to Portuguese and back it has more exact names than the rules (0.035
and 0.024), of Spanish to Galician fewer than copying (0.059).

With `:image`, the decoder reads the drawing beside the name, for 1,000 steps in
18 minutes on one shared core (2026-11-30): 0.021 exact, chrF 0.22, of the pair
that is not in training 0 and 0.18; without the name 0, without the image 0.001.
At this length of training the image is one more thing to learn, not a help.

By rules (the last command without `--run`), the source itself has between 0.00
(Serbian, of which it is in the wrong script) and 0.28 (Spanish and Asturian)
exact names and chrF 0.03 to 0.63; the translation of the most similar name in
training has no exact name and chrF 0.25 to 0.34; the commonest name of training
0.08 to 0.11.
"""

import ml_collections

from mmjax.config import variants

TRANSFORMER = dict(width=128, depth=2, num_heads=4, mlp_dim=512)


def get_config(arg: str = '') -> ml_collections.ConfigDict:
  """Returns the config.

  Args:
    arg: 'image' for a decoder that reads the drawing beside the name;
      'runlocal' for a minute on one core.
  """
  chosen = variants.chosen(arg, 'image', 'runlocal')
  config = ml_collections.ConfigDict()
  config.experiment = 'multimodal'
  config.seed = 0

  config.data = dict(
    name='names',
    # Few words repeat, and most translations keep or change letters.
    tokenizer='bytes',
    eval_split='',
    extra_splits=('unseen',),
    features=dict(
      source=dict(kind='text', length=52, as_input=True),
      target=dict(kind='text', length=42),
    ),
  )
  config.model = dict(
    name='multimodal',
    encoders=dict(source=dict(name='transformer', **TRANSFORMER, dropout=0.1)),
    decoder=dict(name='text', **TRANSFORMER, dropout=0.1),
  )
  config.tasks = dict(translate=dict(target='target', label_smoothing=0.1))
  config.optimizer = dict(
    name='adamw',
    lr=2e-3,
    schedule='cosine',
    warmup_steps=100,
    weight_decay=0.05,
    clip_norm=1.0,
  )
  config.train = dict(steps=1000, batch_size=64, log_every=50)
  config.eval = dict(batch_size=97)

  if 'image' in chosen:
    config.data.image_size = 64
    config.model.encoders.image = dict(
      name='resnet',
      stages=(1, 1, 1),
      width=32,
      block='basic',
      stem='patch',
      patch_size=4,
      positions=True,
    )
    config.model.fusion = dict(name='concat', width=TRANSFORMER['width'])
  if 'runlocal' in chosen:
    config.train.steps = 60
    config.optimizer.warmup_steps = 10
    config.eval.num_examples = 97
  return config
