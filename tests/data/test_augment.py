"""Augmentations are pure, behave as documented and refuse unknown arguments."""

import numpy as np
import pytest

from mmjax.data import augment, rand_augment

SIZE = (11, 13)


def make_image(seed: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (*size, 3), np.uint8)


SETTINGS = [
  {'name': 'random_resized_crop', 'scale': (0.3, 0.9)},
  {'name': 'flip'},
  {
    'name': 'color_jitter',
    'brightness': 0.5,
    'contrast': 0.5,
    'saturation': 0.5,
    'hue': 0.3,
  },
  {'name': 'rand_augment', 'num_ops': 3, 'magnitude': 7},
  {'name': 'cutout', 'size': 0.5},
  {'name': 'translate', 'pixels': 3},
  {'name': 'warp', 'degrees': 20, 'shear': 0.2, 'elastic': 0.1},
  {'name': 'sharpness', 'p': 0.9},
  {'name': 'outline', 'p': 0.9},
]


@pytest.mark.parametrize('setting', SETTINGS, ids=lambda s: s['name'])
def test_pure_and_of_the_same_kind(setting):
  augment.check([setting])
  image = make_image()
  before = image.copy()
  image.flags.writeable = False
  results = []
  for seed in (0, 0, *range(1, 6)):
    rng = np.random.default_rng(seed)
    result = augment.apply(image, rng, [setting], size=SIZE)
    assert result.shape == (*SIZE, 3)
    assert result.dtype == np.uint8
    results.append(result)
  np.testing.assert_array_equal(image, before)
  np.testing.assert_array_equal(results[0], results[1])
  assert any((result != before).any() for result in results)


def test_settings_run_in_order():
  image = make_image()
  settings = [SETTINGS[4], SETTINGS[5]]
  rng = np.random.default_rng(3)
  expected = augment.cutout(image, rng, size=0.5)
  expected = augment.translate(expected, rng, pixels=3)
  rng = np.random.default_rng(3)
  result = augment.apply(image, rng, settings, size=SIZE)
  np.testing.assert_array_equal(result, expected)


def test_flip_mirrors_only_columns():
  image = make_image()
  flipped = augment.flip(image, np.random.default_rng(0), p=1)
  np.testing.assert_array_equal(flipped[:, 0], image[:, -1])
  same = augment.flip(image, np.random.default_rng(0), p=0)
  np.testing.assert_array_equal(same, image)


def test_flips_can_be_left_out():
  image = make_image()
  setting = {'name': 'flip', 'p': 1.0}
  rng = np.random.default_rng(0)
  kept = augment.apply(image, rng, [setting], size=SIZE, flips=False)
  np.testing.assert_array_equal(kept, image)


def test_crop_of_everything_is_a_resize():
  image = make_image(size=(8, 8))
  rng = np.random.default_rng(0)
  whole = augment.random_resized_crop(
    image, rng, size=(8, 8), scale=(1, 1), ratio=(1, 1)
  )
  np.testing.assert_array_equal(whole, image)


def test_cutout_covers_a_square_of_its_size():
  image = np.zeros((20, 30, 3), np.uint8)
  covered = [
    (augment.cutout(image, np.random.default_rng(i), size=0.25) == 128).sum()
    for i in range(30)
  ]
  assert max(covered) == 5 * 5 * 3
  assert min(covered) < 5 * 5 * 3  # Some hang over the edge.


def test_translate_by_hand():
  image = np.arange(4, dtype=np.uint8).reshape(1, 4, 1).repeat(3, axis=2)
  seen = {
    tuple(augment.translate(image, np.random.default_rng(i), pixels=1)[0, :, 0])
    for i in range(20)
  }
  assert seen == {(0, 0, 1, 2), (0, 1, 2, 3), (1, 2, 3, 3)}


def test_grey_has_equal_channels():
  image = make_image()
  rng = np.random.default_rng(0)
  grey = augment.color_jitter(image, rng, brightness=0.2, grey=1.0)
  assert (grey == grey[..., :1]).all()
  coloured = augment.color_jitter(image, rng, brightness=0.2, grey=0.0)
  assert (coloured != coloured[..., :1]).any()


def test_nothing_happens_at_strength_zero():
  image = make_image()
  rng = np.random.default_rng(0)
  np.testing.assert_array_equal(augment.color_jitter(image, rng), image)
  full_turn = augment.color_jitter(image, rng, hue=0.5, p=0.0)
  np.testing.assert_array_equal(full_turn, image)


@pytest.mark.parametrize('name', sorted(rand_augment.OPERATIONS))
@pytest.mark.parametrize('sign', [-1, 1])
def test_rand_augment_operations_keep_the_size(name, sign):
  import PIL.Image

  image = PIL.Image.fromarray(make_image())
  result = rand_augment.OPERATIONS[name](image, 1.0, sign)
  assert result.size == image.size
  assert result.mode == 'RGB'


def test_rand_augment_does_not_use_excluded_operations():
  exclude = tuple(set(rand_augment.OPERATIONS) - {'identity'})
  image = make_image()
  rng = np.random.default_rng(0)
  same = augment.rand_augment(image, rng, num_ops=5, exclude=exclude)
  np.testing.assert_array_equal(same, image)


@pytest.mark.parametrize(
  ('setting', 'message'),
  [
    ({'name': 'blur'}, "'blur' is unknown; use one of random_resized_crop"),
    ({'p': 1}, 'None is unknown'),
    ({'name': 'flip', 'q': 1}, "takes no 'q'; it takes p"),
    ({'name': 'random_resized_crop', 'size': 3}, "takes no 'size'"),
    ({'name': 'rand_augment', 'exclude': ('blur',)}, 'no operation blur'),
  ],
)
def test_unknown_names_are_refused(setting, message):
  with pytest.raises(ValueError, match=message):
    augment.check([setting])


@pytest.mark.parametrize(
  ('text', 'expected'),
  [
    ('left of the cube', True),
    ('the RIGHT one', True),
    ('is it left-handed?', True),
    ('rightmost ball', True),
    ('a bright light', False),
    ('cleft', False),
    ('', False),
  ],
)
def test_mentions_side(text, expected):
  assert augment.mentions_side(text) is expected


def test_a_setting_that_is_not_a_dict_is_refused():
  with pytest.raises(ValueError, match="augmentation 'flip' is not a dict"):
    augment.check(('flip',))
