"""Answering questions about images.

With the objective `vqa_classification` the answer is picked out of those that
training has; with `vqa_generation` it is written. What is measured is accuracy
overall and by question type, beside that of a twin that sees no image.

  python -m experiments.vqa --config=configs/vqa_shapes.py --workdir=runs/vqa
"""

import jax
import jax.numpy as jnp

from mmjax import evaluators, models, objectives
from mmjax.data import feeds
from mmjax.train import baseline, experiment, main


def build(config, blind=None) -> experiment.Experiment:
  """Makes the experiment that a config describes.

  Args:
    config: a completed config.
    blind: the results of the twin that sees no image.
  """
  settings = config.objectives.to_dict()
  classifies = bool(settings.get('vqa_classification', {}).get('weight', 0))
  feed = feeds.open_feed(
    config.data,
    batch_size=config.train.batch_size,
    seed=config.seed,
    question=True,
    answer='vqa_generation' in settings,
    label=classifies,
    num_hosts=jax.process_count(),
    host=jax.process_index(),
  )
  for name in settings:
    settings[name]['needs_image'] = not config.data.blind
  model = models.build(
    config.model,
    vocab_size=feed.preprocess.tokenizer.vocab_size,
    question_length=config.data.question_length,
    answer_length=config.data.answer_length,
    num_answers=len(feed.preprocess.answers),
    dtype=config.train.dtype,
  )

  def answer(params, batch):
    if classifies:
      logits = model.apply({'params': params}, batch, method='classify_answer')
      return jnp.argmax(logits, axis=-1)
    written = model.apply(
      {'params': params},
      batch,
      task='answer',
      length=config.data.answer_length - 1,
      beam_size=config.eval.beam_size,
      method='generate',
    )
    return written.tokens

  def answers(split: str, name: str = 'vqa'):
    place = 'val/' if split == 'val' else 'test/'
    return evaluators.Answers(
      answer,
      feed.splits[split],
      feed.preprocess,
      batch_size=config.eval.batch_size,
      num_examples=config.eval.num_examples,
      blind={
        key.removeprefix(place): value
        for key, value in (blind or {}).items()
        if key.startswith(place)
      },
      name=name,
    )

  return experiment.Experiment(
    model=model,
    objectives=objectives.build(settings),
    train_data=feed.train,
    init_batch=feed.init_batch,
    evaluators={
      'val': {'vqa': answers('val')},
      'test': {
        'vqa': answers('test'),
        **{
          split: answers(split, f'{split}/vqa')
          for split in config.data.extra_splits
        },
      },
    },
    files=feed.files,
  )


if __name__ == '__main__':
  main.launch(build, run=baseline.run)
