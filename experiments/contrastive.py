"""Contrastive learning of an image and a text tower.

The objective is CLIP's softmax or SigLIP's sigmoid; what is measured is
retrieval between images and all their captions.

  python -m experiments.contrastive --config=configs/contrastive_shapes.py \
    --workdir=runs/contrastive
"""

import jax

from mmjax import evaluators, models, objectives
from mmjax.data import feeds
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

  def embed_images(params, batch):
    return model.apply(
      {'params': params},
      batch['image'],
      batch['image_mask'],
      method='encode_image',
    )

  def embed_texts(params, batch):
    return model.apply(
      {'params': params},
      batch['text'],
      batch['text_mask'],
      method='encode_text',
    )

  def retrieval(split: str, name: str = 'retrieval'):
    return evaluators.Retrieval(
      embed_images,
      embed_texts,
      feed.splits[split],
      feed.preprocess,
      batch_size=config.eval.batch_size,
      num_examples=config.eval.num_examples,
      gallery_by=config.eval.gallery_by,
      name=name,
    )

  return experiment.Experiment(
    model=model,
    objectives=objectives.build(config.objectives),
    train_data=feed.train,
    init_batch=feed.init_batch,
    evaluators={
      'val': {'retrieval': retrieval('val')},
      'test': {
        'retrieval': retrieval('test'),
        **{
          split: retrieval(split, f'{split}/retrieval')
          for split in config.data.extra_splits
        },
      },
    },
    files=feed.files,
  )


if __name__ == '__main__':
  main.launch(build)
