"""Parameters and arithmetic of every fusion, as the table of docs/fusion.md.

  python -m benchmarks.fusion_costs

Nothing is computed: parameters are counted from shapes, and operations in the
program before it is compiled, forward, for one example.
"""

import math

import jax
import jax.numpy as jnp

from mmjax import fusion
from mmjax.types import TokenVectors

WIDTH, TOKENS, CLASSES = 64, 16, 10
# (number of modalities, width of all, tokens of each).
SIZES = (
  (2, WIDTH, TOKENS),
  (3, WIDTH, TOKENS),
  (2, 2 * WIDTH, TOKENS),
  (2, WIDTH, 4 * TOKENS),
)
_NAMES = ('audio', 'image', 'text')


def make(name: str, width: int, number: int):
  """One fusion, with the depth that it has in this table."""
  cls = fusion.FUSIONS[name]
  fields = cls.__dataclass_fields__
  settings = {
    'width': width,
    'query': _NAMES[number - 1],
    'num_heads': 4,
    'mlp_dim': 4 * width,
    'depth': 2,
    # The operations of a scanned program would be those of one block.
    'scan': False,
  }
  return cls(**{key: v for key, v in settings.items() if key in fields})


def count_parameters(name: str, number: int, width: int, length: int) -> int:
  """Number of parameters of a fusion of `number` modalities."""
  module, tokens = _prepare(name, number, width, length)
  return sum(math.prod(x.shape) for x in jax.tree.leaves(_init(module, tokens)))


def count_operations(name: str, number: int, width: int, length: int) -> float:
  """Floating-point operations of one example, forward."""
  module, tokens = _prepare(name, number, width, length)

  def apply(variables, tokens):
    out = module.apply(variables, tokens, train=False)
    return out.values, out.pooled

  lowered = jax.jit(apply).lower(_init(module, tokens), tokens)
  return lowered.cost_analysis()['flops']


def _prepare(name: str, number: int, width: int, length: int):
  """A fusion, and the shapes of one example."""
  module = make(name, width, number)
  if name in fusion.DECISION_FUSIONS:
    # They get outputs, one token a modality.
    width, length = CLASSES, 1
  tokens = {
    key: TokenVectors(
      jax.ShapeDtypeStruct((1, length, width), jnp.float32),
      jax.ShapeDtypeStruct((1, length), bool),
      jax.ShapeDtypeStruct((1, width), jnp.float32),
    )
    for key in _NAMES[:number]
  }
  return module, tokens


def _init(module, tokens):
  """Shapes of the variables."""
  return jax.eval_shape(
    lambda tokens: module.init(jax.random.key(0), tokens, train=False), tokens
  )


def make_rows() -> list[str]:
  """The lines of the table, in Markdown."""
  lines = [
    '| fusion | parameters | of 3 modalities | of twice the width | MFLOP | '
    'of 3 modalities | of twice the width | of 4 times the tokens |',
    '|---|---|---|---|---|---|---|---|',
  ]
  for name in fusion.FUSIONS:
    cells = [f'{count_parameters(name, *size):,}' for size in SIZES[:3]]
    cells += [f'{count_operations(name, *s) / 1e6:.2g}' for s in SIZES]
    lines.append(f'| `{name}` | {" | ".join(cells)} |')
  return lines


def main() -> None:
  print('\n'.join(make_rows()))


if __name__ == '__main__':
  main()
