"""Visual question answering.

How much of an answer comes from the image, and how much could be guessed from
the question? Evaluated by accuracy, overall and by question type, next to that
of a blind baseline.

The task `vqa_classification` picks an answer of the training data;
`vqa_generation` generates it as text. With `captioning` in addition, the same
decoder also learns to describe the image, which trains the image encoder faster
than answers alone; it is not evaluated.

  python -m experiments.vqa --config=configs/vqa_shapes.py --workdir=runs/vqa
"""

from mmjax.training import baseline, experiment, main

build = experiment.Builder(evaluates=('vqa_classification', 'vqa_generation'))

if __name__ == '__main__':
  main.launch(build, run=baseline.run)
