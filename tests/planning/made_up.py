"""A plan of made-up numbers."""

from mmjax.planning import collectives, report
from mmjax.training import flops

CHIP = flops.Chip('TPU of tests', 100e12, 16 * 2**30, 1000e9, 50e9)
REPORT = report.Report(
  chips=8,
  kind='TPU of tests',
  mesh={'data': 4, 'fsdp': 2, 'tensor': 1, 'sequence': 1},
  batch_size=1600,
  parameters=1_234_567,
  trained=1_000_000,
  held={'parameters': 2.0**30, 'optimizer': 2.0**31, 'average': 0.0},
  memory={
    'arguments': 3 * 2**30,
    'outputs': 3 * 2**30,
    'aliased': 2 * 2**30,
    'temporaries': 2**30,
    'program': 0,
  },
  flops=2e12,
  useful_flops=1.5e12,
  traffic=10e9,
  sent=(
    collectives.Collective('all-reduce', ('data',), 12, 2e9),
    collectives.Collective('all-reduce', ('data',), 1, 0.5e9),
    collectives.Collective('all-gather', (), 3, 1e9),
  ),
  unknown_loops=('while.3',),
  limits=CHIP,
  compile_seconds=2.0,
)
