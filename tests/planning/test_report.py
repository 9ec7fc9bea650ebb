"""What is said of made-up numbers."""

import dataclasses
import json

import pytest

from mmjax.planning import collectives, report
from mmjax.train import flops

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


def test_roofline():
  assert REPORT.seconds == pytest.approx(
    {'compute': 0.02, 'memory': 0.01, 'interconnect': 0.07}
  )
  best, worst = REPORT.step_seconds
  assert (best, worst) == pytest.approx((0.07, 0.1))
  assert REPORT.mfu(worst) == pytest.approx(0.15)
  assert REPORT.peak_memory == 5 * 2**30


def test_collectives_add_up_by_kind_and_axis():
  assert report.by_kind(REPORT) == {
    ('all-reduce', 'data'): {'times': 13, 'sent': 2.5e9},
    ('all-gather', 'other'): {'times': 3, 'sent': 1e9},
  }


def test_the_text_says_all_of_it():
  said = report.text(REPORT, examples=1.6e9, price_per_chip_hour=1.5)
  for part in (
    '8 x TPU of tests, mesh data=4 fsdp=2, batch 1,600 (200 a chip)',
    '1,234,567, 1,000,000 of them trained',
    '5.00 GiB of 16.00 GiB (31%)',
    'parameters 1.00 GiB, optimizer 2.00 GiB)',
    'all-reduce         over data ',
    'loops count as one round',
    'interconnect      70.00 ms  <- the bound',
    '22,857       16,000',
    '1.6 G examples: 19.4 to 27.8 hours',
    'cost at 1.5 a chip hour: 233 to 333',
  ):
    assert part in said, part
  json.dumps(report.to_json(REPORT))


def test_what_slices_send_each_other_is_told_apart():
  between = collectives.Collective('all-reduce', ('slices',), 2, 3e9)
  two = dataclasses.replace(REPORT, sent=(*REPORT.sent, between), slices=2)
  assert two.bytes_between_slices == 3e9
  assert two.bytes_sent == REPORT.bytes_sent
  assert two.seconds == REPORT.seconds
  said = report.text(two)
  assert '8 x TPU of tests in 2 slices, ' in said
  assert '3.26 GiB sent a chip and step, 2.79 GiB to other slices' in said
  assert 'all-reduce         over slices' in said
  assert 'is left out of these times' in said
  assert 'slices' not in report.text(REPORT)


def test_without_peaks_there_are_no_times():
  unknown = dataclasses.replace(REPORT, limits=None)
  assert unknown.step_seconds is None
  said = report.text(unknown, examples=1e9, price_per_chip_hour=2)
  assert 'no published peaks' in said
  assert 'no estimate of times, hours and cost' in said
