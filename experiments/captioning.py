"""Writing captions: an image encoder and a text decoder.

What is measured is how often a caption is exactly one of the references, the
usual overlap metrics, and on `shapes` which attributes are right.

  python -m experiments.captioning --config=configs/captioning_shapes.py \
    --workdir=runs/captioning
"""

import jax

from mmjax import evaluators, models, objectives
from mmjax.data import feeds, shapes_captions
from mmjax.train import experiment, main


def build(config) -> experiment.Experiment:
  """Makes the experiment that a config describes."""
  feed = feeds.open_feed(
    config.data,
    batch_size=config.train.batch_size,
    seed=config.seed,
    text=True,
    num_hosts=jax.process_count(),
    host=jax.process_index(),
  )
  model = models.build(
    config.model,
    vocab_size=feed.preprocess.tokenizer.vocab_size,
    text_length=config.data.text_length,
    dtype=config.train.dtype,
  )

  def generate(params, batch):
    written = model.apply(
      {'params': params},
      batch,
      task='caption',
      length=config.data.text_length - 1,
      beam_size=config.eval.beam_size,
      method='generate',
    )
    return written.tokens

  is_shapes = config.data.name.split('/')[0] == 'shapes'

  def captions(split: str, name: str = 'captions'):
    return evaluators.Captions(
      generate,
      feed.splits[split],
      feed.preprocess,
      batch_size=config.eval.batch_size,
      num_examples=config.eval.num_examples,
      parse=shapes_captions.parse_caption if is_shapes else None,
      name=name,
    )

  return experiment.Experiment(
    model=model,
    objectives=objectives.build(config.objectives),
    train_data=feed.train,
    init_batch=feed.init_batch,
    evaluators={
      'val': {'captions': captions('val')},
      'test': {
        'captions': captions('test'),
        **{
          split: captions(split, f'{split}/captions')
          for split in config.data.extra_splits
        },
      },
    },
    files=feed.files,
  )


if __name__ == '__main__':
  main.launch(build)
