r"""Group relative policy optimisation: answers trained by a Python reward.

Does a model that answers questions about a scene answer more of them right, if
only its own right answers are rewarded? Before each update it writes
several answers to each prompt, and `is_right` rewards them. Evaluated by the
mean reward of greedy answers on held-out records.

  python -m experiments.grpo --config=configs/grpo_shapes.py \
    --config.init_from=runs/chat_shapes --workdir=runs/grpo_shapes
"""

from collections.abc import Mapping
from typing import Any

from mmjax import tasks
from mmjax.training import experiment, main


def is_right(answer: str, record: Mapping[str, Any]) -> float:
  """1 for an answer to the last question that the record has, else 0.

  Args:
    answer: what the model wrote.
    record: has `questions`, of which the prompt asks the last one.
  """
  asked = [q for q in record['fields']['questions'] if q['answers']]
  return float(answer in asked[-1]['answers'])


build = experiment.Builder(tasks={'grpo': tasks.make_grpo(is_right)})

if __name__ == '__main__':
  main.launch(build)
