r"""Trains one model on several tasks at once.

Do contrastive learning, captioning and question answering help each other in
one model? Any weighted subset of them trains a contrastive captioner (CoCa)
with one image tower, and each is evaluated; answers next to those of a blind
baseline.

  python -m experiments.pretrain --config=configs/pretrain_shapes.py \
    --workdir=runs/pretrain --config.tasks.captioning.weight=2.0
"""

from mmjax.training import baseline, experiment, main

build = experiment.Builder()

if __name__ == '__main__':
  main.launch(build, run=baseline.run)
