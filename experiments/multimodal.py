r"""Any tasks on any fields: which of them carry what is to be predicted?

A config names the features of its data, an encoder for each, and the tasks;
results come with those of every subset of the inputs.

  python -m experiments.multimodal --config=configs/classify_senses.py \
    --workdir=runs/classify_senses
"""

from mmjax.training import experiment, main

build = experiment.Builder()

if __name__ == '__main__':
  main.launch(build)
