r"""Trains one model on several objectives at once.

Any weighted subset of contrastive learning, captioning and question answering
trains a contrastive captioner (CoCa) with one image tower. Each objective has
its own evaluator.

  python -m experiments.pretrain --config=configs/pretrain_shapes.py \
    --workdir=runs/pretrain --config.objectives.captioning.weight=2.0
"""

import functools

from mmjax import evaluators, objectives
from mmjax.data import feeds
from mmjax.models import from_config, predict
from mmjax.parallel import mesh as mesh_lib
from mmjax.train import baseline, experiment, main


def build(config, mesh, blind=None) -> experiment.Experiment:
  """Builds the experiment that a config describes.

  Args:
    config: completed config.
    mesh: devices to train on.
    blind: results of the blind baseline.
  """
  from_config.check(config)
  losses = objectives.build(config.objectives, blind=config.data.blind)
  batch_size = config.train.batch_size
  feed = feeds.open_feed(
    config.data,
    batch_size=batch_size,
    seed=config.seed,
    text='contrastive' in losses or 'captioning' in losses,
    question='vqa_classification' in losses,
    label='vqa_classification' in losses,
    rows=mesh_lib.batch_rows(mesh, batch_size),
    needs=objectives.needs(losses),
  )
  model = from_config.build(config, feed.preprocess)
  build_evaluators = functools.partial(
    _build_evaluators, config, losses, model, feed, blind
  )
  return experiment.Experiment(
    model=model,
    objectives=losses,
    train_data=feed.train,
    init_batch=feed.init_batch,
    evaluators=experiment.by_split(feed.splits, build_evaluators),
    files=feed.files,
    notes=feed.notes,
  )


def _build_evaluators(
  config, losses, model, feed, blind, split: str, prefix: str
):
  """Evaluators of one split by name, one of each objective."""
  shared = {
    'batch_size': config.eval.batch_size,
    'num_examples': config.eval.num_examples,
  }
  source, preprocess = feed.splits[split], feed.preprocess
  out = {}
  if 'contrastive' in losses:
    out[f'{prefix}retrieval'] = evaluators.Retrieval(
      predict.embed_images(model),
      predict.embed_texts(model),
      source,
      preprocess,
      gallery_by=config.eval.gallery_by,
      name=f'{prefix}retrieval',
      **shared,
    )
  if 'captioning' in losses:
    out[f'{prefix}captions'] = evaluators.Captions(
      predict.write(
        model,
        task='caption',
        length=config.data.text_length - 1,
        beam_size=config.eval.beam_size,
      ),
      source,
      preprocess,
      parse=evaluators.PARSERS.get(config.data.name.split('/')[0]),
      name=f'{prefix}captions',
      **shared,
    )
  if 'vqa_classification' in losses:
    out[f'{prefix}vqa'] = evaluators.Answers(
      predict.pick_answer(model),
      source,
      preprocess,
      blind=baseline.of_split(blind, 'val' if split == 'val' else 'test'),
      name=f'{prefix}vqa',
      **shared,
    )
  return out


if __name__ == '__main__':
  main.launch(build, run=baseline.run)
