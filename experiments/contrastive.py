r"""Contrastive learning of an image and a text tower.

Does a model that only compares images with texts learn what the texts say? The
loss is CLIP's softmax or SigLIP's sigmoid. Evaluated by retrieval between
images and all their captions.

  python -m experiments.contrastive --config=configs/contrastive_shapes.py \
    --workdir=runs/contrastive
"""

from mmjax.training import experiment, main

build = experiment.Builder()

if __name__ == '__main__':
  main.launch(build)
