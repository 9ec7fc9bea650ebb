r"""Drawing images of texts, by diffusion or flow matching.

Does a model draw all that a text asks for, also what it never saw together? On
`shapes` every drawn image is read again by a program that is not learnt.

  python -m experiments.draw --config=configs/draw_shapes.py \
    --workdir=runs/draw_shapes
"""

from mmjax.training import experiment, main

build = experiment.Builder()

if __name__ == '__main__':
  main.launch(build)
