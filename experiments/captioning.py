r"""Image captioning with an image encoder and a text decoder.

Can a decoder that reads an image encoder's tokens describe what is in the
image? Evaluated by exact matches with the references, the usual overlap
metrics, and on `shapes` by the fraction of correct attributes.

  python -m experiments.captioning --config=configs/captioning_shapes.py \
    --workdir=runs/captioning
"""

from mmjax.training import experiment, main

build = experiment.Builder()

if __name__ == '__main__':
  main.launch(build)
