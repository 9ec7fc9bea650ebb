"""The report of made-up numbers."""

import dataclasses
import json

import made_up
import pytest

from mmjax.planning import collectives, report


def test_roofline():
  assert made_up.REPORT.seconds == pytest.approx(
    {'compute': 0.02, 'memory': 0.01, 'interconnect': 0.07}
  )
  best, worst = made_up.REPORT.step_seconds
  assert (best, worst) == pytest.approx((0.07, 0.1))
  assert made_up.REPORT.mfu(worst) == pytest.approx(0.15)
  assert made_up.REPORT.peak_memory == 5 * 2**30


def test_collectives_add_up_by_kind_and_axis():
  assert report.sum_by_kind(made_up.REPORT) == {
    ('all-reduce', 'data'): {'times': 13, 'sent': 2.5e9},
    ('all-gather', 'other'): {'times': 3, 'sent': 1e9},
  }


def test_the_text_says_all_of_it():
  text = report.to_text(made_up.REPORT, examples=1.6e9, price_per_chip_hour=1.5)
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
    assert part in text, part
  # A model of a thousandth of the size and of the traffic.
  tiny = dataclasses.replace(
    made_up.REPORT,
    flops=made_up.REPORT.flops / 1e4,
    traffic=made_up.REPORT.traffic / 1e4,
    sent=(),
  )
  text = report.to_text(tiny)
  assert 'compute            2.00 µs  <- the bound' in text
  assert 'step               2.00 µs      3.00 µs' in text
  json.dumps(report.to_json(made_up.REPORT))


def test_what_slices_send_each_other_is_counted_by_itself():
  between = collectives.Collective('all-reduce', ('slices',), 2, 3e9)
  two = dataclasses.replace(
    made_up.REPORT, sent=(*made_up.REPORT.sent, between), slices=2
  )
  assert two.bytes_between_slices == 3e9
  assert two.bytes_sent == made_up.REPORT.bytes_sent
  assert two.seconds == made_up.REPORT.seconds
  text = report.to_text(two)
  assert '8 x TPU of tests in 2 slices, ' in text
  assert '3.26 GiB sent a chip and step, 2.79 GiB to other slices' in text
  assert 'all-reduce         over slices' in text
  assert 'is not included in these times' in text
  assert 'slices' not in report.to_text(made_up.REPORT)


def test_gpus_for_which_cpus_stand_are_named():
  gpus = dataclasses.replace(made_up.REPORT, stands_for=True)
  # Of memory traffic it is only known that a GPU has less.
  slow = dataclasses.replace(gpus, traffic=100e9)
  assert slow.step_seconds == pytest.approx((0.07, 0.19))
  text = report.to_text(slow)
  assert 'interconnect      70.00 ms  <- the bound' in text
  assert 'for as many CPU devices' in text
  assert 'on several hosts' not in report.to_text(gpus)
  assert 'on several hosts' in report.to_text(
    dataclasses.replace(gpus, chips=16)
  )
  assert 'CPU devices' not in report.to_text(made_up.REPORT)


def test_without_peaks_there_are_no_times():
  unknown = dataclasses.replace(made_up.REPORT, limits=None)
  assert unknown.step_seconds is None
  text = report.to_text(unknown, examples=1e9, price_per_chip_hour=2)
  assert 'no published peaks' in text
  assert 'no estimate of times, hours and cost' in text
