r"""Conversations: a language model that learns what the assistant says.

How much of what people ask in conversations does a model answer as the
assistants of its data do? The loss is over the assistant's tokens alone.
Evaluated by that loss on held-out conversations, and by exact matches of their
last answers.

  python -m experiments.chat --config=configs/chat_shapes.py \
    --workdir=runs/chat
"""

from mmjax.training import experiment, main

build = experiment.Builder()

if __name__ == '__main__':
  main.launch(build)
