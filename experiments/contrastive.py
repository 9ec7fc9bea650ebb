r"""Contrastive learning of an image and a text tower.

The objective is CLIP's softmax or SigLIP's sigmoid loss. Evaluated by retrieval
between images and all their captions.

  python -m experiments.contrastive --config=configs/contrastive_shapes.py \
    --workdir=runs/contrastive
"""

from mmjax import evaluators, objectives
from mmjax.data import feeds
from mmjax.models import from_config, predict
from mmjax.parallel import mesh as mesh_lib
from mmjax.train import experiment, main


def build(config, mesh) -> experiment.Experiment:
  """Builds the experiment that a config describes.

  Args:
    config: completed config.
    mesh: devices to train on.
  """
  from_config.check(config)
  losses = objectives.build(config.objectives)
  batch_size = config.train.batch_size
  feed = feeds.open_feed(
    config.data,
    batch_size=batch_size,
    seed=config.seed,
    text=True,
    rows=mesh_lib.batch_rows(mesh, batch_size),
    needs=objectives.needs(losses),
  )
  model = from_config.build(config, feed.preprocess)

  def build_evaluators(split: str, prefix: str):
    name = f'{prefix}retrieval'
    retrieval = evaluators.Retrieval(
      predict.embed_images(model),
      predict.embed_texts(model),
      feed.splits[split],
      feed.preprocess,
      batch_size=config.eval.batch_size,
      num_examples=config.eval.num_examples,
      gallery_by=config.eval.gallery_by,
      name=name,
    )
    return {name: retrieval}

  return experiment.Experiment(
    model=model,
    objectives=losses,
    train_data=feed.train,
    init_batch=feed.init_batch,
    evaluators=experiment.by_split(feed.splits, build_evaluators),
    files=feed.files,
    notes=feed.notes,
  )


if __name__ == '__main__':
  main.launch(build)
