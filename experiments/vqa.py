"""Visual question answering.

The objective `vqa_classification` picks an answer of the training data;
`vqa_generation` generates it as text. With `captioning` in addition, the same
decoder also learns to describe the image, which trains the image encoder faster
than answers alone. Evaluated by accuracy, overall and by question type, next to
that of a blind baseline.

  python -m experiments.vqa --config=configs/vqa_shapes.py --workdir=runs/vqa
"""

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
    text='captioning' in losses,
    question=True,
    answer='vqa_generation' in losses,
    label='vqa_classification' in losses,
    rows=mesh_lib.batch_rows(mesh, batch_size),
    needs=objectives.needs(losses),
  )
  model = from_config.build(config, feed.preprocess)
  if 'vqa_classification' in losses:
    answer = predict.pick_answer(model)
  else:
    answer = predict.write(
      model,
      task='answer',
      length=config.data.answer_length - 1,
      beam_size=config.eval.beam_size,
    )

  def build_evaluators(split: str, prefix: str):
    name = f'{prefix}vqa'
    answers = evaluators.Answers(
      answer,
      feed.splits[split],
      feed.preprocess,
      batch_size=config.eval.batch_size,
      num_examples=config.eval.num_examples,
      blind=baseline.of_split(blind, 'val' if split == 'val' else 'test'),
      name=name,
    )
    return {name: answers}

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
  main.launch(build, run=baseline.run)
