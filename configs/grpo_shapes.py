r"""Answers about scenes of `shapes`, trained by whether they are right.

  python -m experiments.chat --config=configs/chat_shapes.py \
    --workdir=runs/chat_shapes
  python -m experiments.grpo --config=configs/grpo_shapes.py \
    --config.init_from=runs/chat_shapes --workdir=runs/grpo_shapes

The system's turn is the caption of a scene, the user asks the last of the data
set's questions about it. The model that configs/chat_shapes.py trained writes
eight answers to each of 32 prompts a step, at temperature 1.

Measured: the full size is not yet run. `:runlocal` from the run of
configs/chat_shapes.py:runlocal, in 16 minutes on two cores that did other work
besides: the reward of sampled answers, mean of ten steps each, was 0.28, 0.31,
0.32, 0.35, 0.35, 0.34, 0.40, 0.36, 0.35, 0.39; that of greedy answers to 200
validation prompts 0.485 before, 0.530 after 50 steps and 0.570 after 100, to
200 test prompts 0.455 before and 0.525 after. Log-probabilities of sampler and
trainer differed by at most 1.9e-7 per token in the mean of any step.
"""

import ml_collections
import shapes_base

from mmjax.config import variants


def get_config(arg: str = '') -> ml_collections.ConfigDict:
  """Returns the config; `runlocal` shrinks it to minutes on one core."""
  chosen = variants.chosen(arg, 'runlocal')
  config = ml_collections.ConfigDict()
  config.experiment = 'grpo'
  config.seed = 0
  config.init_from = 'runs/chat_shapes'

  config.data = dict(
    name='shapes',
    extra_splits=('compositional',),
    features=dict(
      prompt=dict(
        kind='prompt',
        field='questions',
        system='captions',
        length=72,
        last=1,
      ),
    ),
  )
  config.model = dict(name='language_model')  # That of `init_from`.
  config.tasks = dict(grpo=dict(group=8, max_new_tokens=4))
  config.optimizer = shapes_base.optimizer(
    lr=1e-4,
    schedule='linear',
    warmup_steps=10,
  )
  config.train = dict(
    steps=500,
    batch_size=32,
    log_every=10,
    eval_every=100,
    checkpoint_every=100,
  )
  config.eval = dict(batch_size=100, num_examples=500)

  if 'runlocal' in chosen:
    config.data.name = 'shapes/small'
    config.optimizer.lr = 5e-4
    config.train.steps = 100
    config.train.batch_size = 16
    config.train.eval_every = 50
    config.eval.num_examples = 200
  return config
