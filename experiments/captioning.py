r"""Image captioning with an image encoder and a text decoder.

Evaluated by exact matches with the references, the usual overlap metrics, and
on `shapes` by the fraction of correct attributes.

  python -m experiments.captioning --config=configs/captioning_shapes.py \
    --workdir=runs/captioning
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
  write = predict.write(
    model,
    task='caption',
    length=config.data.text_length - 1,
    beam_size=config.eval.beam_size,
  )

  def build_evaluators(split: str, prefix: str):
    name = f'{prefix}captions'
    captions = evaluators.Captions(
      write,
      feed.splits[split],
      feed.preprocess,
      batch_size=config.eval.batch_size,
      num_examples=config.eval.num_examples,
      parse=evaluators.PARSERS.get(config.data.name.split('/')[0]),
      name=name,
    )
    return {name: captions}

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
