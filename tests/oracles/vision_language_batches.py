"""Batches of texts with images and others, as each of the two reads them."""

import math

import jax.numpy as jnp
import numpy as np
import torch

from mmjax.ops import anyres, packing
from mmjax.pretrained import (
  idefics3,
  llava_onevision,
  qwen2_5_omni,
  qwen2_audio,
  qwen_vl,
)
from tests.oracles import vision_language_configs as models


def words(rng, number):
  return rng.integers(6, models.SEEN - 1, number).tolist()


def pad_rows(rows, left, fill=models.PAD):
  """Rows of any lengths as one array, and its mask."""
  longest = max(map(len, rows))
  out = np.full((len(rows), longest, *np.shape(rows[0])[1:]), fill)
  mask = np.zeros(out.shape[:2], bool)
  for i, row in enumerate(rows):
    place = slice(longest - len(row), None) if left else slice(len(row))
    out[i, place], mask[i, place] = row, True
  return out, mask


def draw_pixels(rng, loaded, grids):
  """Patches of images and videos of each text."""
  config = loaded.config['vision_config']
  size = 3 * config['temporal_patch_size'] * config['patch_size'] ** 2
  number = loaded.module.vision.merge_size**2
  return [
    [rng.normal(size=(grid.tokens * number, size)) for grid in row]
    for row in grids
  ]


def list_pixels(loaded, pixels, grids):
  """The same as transformers reads them, of images and of videos."""
  side, out = loaded.module.vision.merge_size, {}
  for key, suffix, is_video in (
    ('image', '', False),
    ('video', '_videos', True),
  ):
    found = [
      (array, [grid.times, grid.rows * side, grid.columns * side])
      for row, of_row in zip(pixels, grids, strict=True)
      for array, grid in zip(row, of_row, strict=True)
      if grid.video == is_video
    ]
    arrays = np.concatenate([array for array, _ in found]).astype(np.float32)
    out[f'pixel_values{suffix}'] = torch.tensor(arrays)
    out[f'{key}_grid_thw'] = torch.tensor([grid for _, grid in found])
  return out


def qwen_batch(loaded, left):
  """Images of several sizes and a video; a text has both, one has none."""
  rng = np.random.default_rng(0)
  video = {'video': True}
  grids = [
    # Not longer than it is high: see `packing.rotary_positions`.
    [packing.Grid(1, 2, 4), packing.Grid(2, 5, 1, **video)],
    [packing.Grid(1, 3, 3)],
    [],
  ]
  pixels = draw_pixels(rng, loaded, grids)
  # In a text, a video may be several.
  own = [
    [
      part
      for grid in row
      for part in (loaded.split_grid(grid) if grid.video else [grid])
    ]
    for row in grids
  ]
  rows = []
  for row in own:
    rows.append([1, *words(rng, 3)])
    for grid in row:
      seen = [models.SEEN - grid.video] * grid.tokens
      rows[-1] += [2, *seen, 3, *words(rng, 2)]
  ids, mask = pad_rows(rows, left)
  positions = [
    packing.rotary_positions(row, of_row, (models.SEEN, models.SEEN - 1))
    for row, of_row in zip(rows, own, strict=True)
  ]
  ours = {
    'text': jnp.asarray(ids),
    'text_mask': jnp.asarray(mask),
    'text_positions': jnp.asarray(pad_rows(positions, left)[0]),
    **loaded.pack_patches(pixels, own),
  }
  kinds = (ids == models.SEEN) + 2 * (ids == models.SEEN - 1)
  theirs = {
    'input_ids': torch.tensor(ids),
    'attention_mask': torch.tensor(mask).long(),
    'mm_token_type_ids': torch.tensor(kinds).int(),
    **list_pixels(loaded, pixels, grids),
  }
  if loaded.config['model_type'] == 'qwen2_5_vl':
    config = loaded.config['vision_config']
    seconds = config['temporal_patch_size'] / loaded.frames_per_second
    theirs['second_per_grid_ts'] = torch.tensor([seconds])
  return theirs, ours


def omni_batch(loaded, left):
  """A text has an image, a sound and a video; one two sounds, one nothing.

  Of the sounds, one ends within a chunk and one with it; the video lasts longer
  than it is high.
  """
  rng = np.random.default_rng(0)
  both, audio = loaded.config, loaded.config['audio_config']
  chunk = 2 * audio['n_window']
  most, bands = 3 * chunk, audio['num_mel_bins']
  frames = np.asarray([[chunk + 3, 0], [2 * chunk, most - 1], [0, 0]])
  (video,) = loaded.split_grid(packing.Grid(3, 2, 1, video=True))
  heard = [
    [packing.Grid(1, 1, (n + 1) // 4, sound=True) for n in row if n]
    for row in frames.tolist()
  ]
  grids = [[packing.Grid(1, 2, 3), *heard[0], video], heard[1], []]
  known = models.SEEN, models.SEEN - 1, models.HEARD
  draw = lambda number: [min(i, models.END - 1) for i in words(rng, number)]
  rows = []
  for row in grids:
    rows.append([1, *draw(3)])
    for grid in row:
      begin, end = (models.BEGIN, models.END) if grid.sound else (2, 3)
      token = known[2 * grid.sound + grid.video]
      rows[-1] += [begin, *[token] * grid.tokens, end, *draw(2)]
  ids, mask = pad_rows(rows, left)
  positions = [
    packing.rotary_positions(row, of_row, known)
    for row, of_row in zip(rows, grids, strict=True)
  ]
  seen = [[grid for grid in row if not grid.sound] for row in grids]
  pixels = draw_pixels(rng, loaded, seen)
  spectrogram = rng.normal(size=(3, 2, most, bands)).astype(np.float32)
  ours = {
    'text': jnp.asarray(ids),
    'text_mask': jnp.asarray(mask),
    'text_positions': jnp.asarray(pad_rows(positions, left)[0]),
    **loaded.pack_patches(pixels, seen),
    **loaded.pack_spectrograms(spectrogram, frames),
  }
  sounds = frames > 0
  real = np.arange(most) < frames[sounds][:, None]
  seconds = video.interval / both['position_id_per_seconds']
  return {
    'input_ids': torch.tensor(ids),
    'attention_mask': torch.tensor(mask).long(),
    'input_features': torch.tensor(spectrogram[sounds]).permute(0, 2, 1),
    'feature_attention_mask': torch.tensor(real).long(),
    'video_second_per_grid': torch.tensor([seconds]),
    **list_pixels(loaded, pixels, seen),
  }, ours


def onevision_batch(loaded, left):
  """Two images of a tile, one of several beside a video, and none."""
  rng = np.random.default_rng(0)
  side = loaded.vision_config()['image_size']
  tokens = loaded.tokens_per_image()
  root = math.isqrt(tokens)
  both = loaded.config
  size = (2 * side + 1, 3 * side - 3)
  shape = anyres.choose_size(
    size, [tuple(pair) for pair in both['image_grid_pinpoints']]
  )
  grid = [length // side for length in shape]
  most = int(both['vision_aspect_ratio'].removeprefix('anyres_max_'))
  tiled = anyres.lay_out_tiles(size, *grid, root, most)
  number = 1 + grid[0] * grid[1]
  pixels = [
    rng.normal(size=(count, side, side, 3)).astype(np.float32)
    for count in (1, 1, number, 3)
  ]
  whole = anyres.lay_out_whole(root)
  video = anyres.lay_out_frames(3, root).shift(number * tokens)
  layouts = [[whole, whole.shift(tokens)], [tiled, video], []]
  rows = [
    [1, *words(rng, 2), *seen_as(whole), *words(rng, 3), *seen_as(whole), 7],
    [1, *seen_as(tiled), *words(rng, 2), *seen_as(video, models.SEEN - 1), 8],
    [1, *words(rng, 7)],
  ]
  ids, mask = pad_rows(rows, left)
  stacked = [np.concatenate(pixels[:2]), np.concatenate(pixels[2:]), []]
  ours = {
    'text': jnp.asarray(ids),
    'text_mask': jnp.asarray(mask),
    **loaded._stack(stacked, layouts),
  }
  theirs = np.zeros((3, number, side, side, 3), np.float32)
  for i, array in enumerate(pixels[:3]):
    theirs[i, : len(array)] = array
  return {
    'input_ids': torch.tensor(ids),
    'attention_mask': torch.tensor(mask).long(),
    'pixel_values': torch.tensor(theirs).permute(0, 1, 4, 2, 3),
    'pixel_values_videos': torch.tensor(pixels[3])[None].permute(0, 1, 4, 2, 3),
    'image_sizes': torch.tensor([(7, 5), (side, side), size]),
    'batch_num_images': torch.tensor([2, 1]),
  }, ours


def audio_batch(loaded, left):
  """Two sounds of other lengths, one that fills its window, and none."""
  rng = np.random.default_rng(0)
  audio = loaded.config['audio_config']
  most, bands = 2 * audio['max_source_positions'], audio['num_mel_bins']
  frames = np.asarray([[11, 7], [most, 0], [0, 0]])
  tokens = [[seen_as(range((n + 1) // 4)) for n in row] for row in frames]
  rows = [
    [1, *words(rng, 2), *tokens[0][0], *words(rng, 3), *tokens[0][1], 7],
    [1, *tokens[1][0], *words(rng, 5)],
    [1, *words(rng, 7)],
  ]
  ids, mask = pad_rows(rows, left)
  spectrogram = rng.normal(size=(3, 2, most, bands)).astype(np.float32)
  ours = {
    'text': jnp.asarray(ids),
    'text_mask': jnp.asarray(mask),
    **loaded.pack_spectrograms(spectrogram, frames),
  }
  sounds = frames > 0
  real = np.arange(most) < frames[sounds][:, None]
  return {
    'input_ids': torch.tensor(ids),
    'attention_mask': torch.tensor(mask).long(),
    'input_features': torch.tensor(spectrogram[sounds]).permute(0, 2, 1),
    'feature_attention_mask': torch.tensor(real).long(),
  }, ours


def seen_as(layout, token=models.SEEN):
  return [token] * len(layout)


def make(loaded, left=False):
  """Three texts with two, one and no images, and padding on either side."""
  if isinstance(loaded, qwen2_5_omni.Model):
    return omni_batch(loaded, left)
  if isinstance(loaded, qwen_vl.QwenVL):
    return qwen_batch(loaded, left)
  if isinstance(loaded, llava_onevision.Model):
    return onevision_batch(loaded, left)
  if isinstance(loaded, qwen2_audio.Model):
    return audio_batch(loaded, left)
  rng = np.random.default_rng(0)
  seen = [models.SEEN] * loaded.tokens_per_image()
  rows = [
    [1, *words(rng, 2), *seen, *words(rng, 3), *seen, *words(rng, 2)],
    [1, *seen, *words(rng, 5)],
    [1, *words(rng, 7)],
  ]
  ids, mask = pad_rows(rows, left)
  side = loaded.vision_config()['image_size']
  images = rng.normal(size=(3, 2, side, side, 3)).astype(np.float32)
  flat_images = np.concatenate([images[0], images[1, :1]])
  theirs = {
    'input_ids': torch.tensor(ids),
    'attention_mask': torch.tensor(mask).long(),
    'pixel_values': torch.tensor(flat_images).permute(0, 3, 1, 2),
  }
  ours = {
    'text': jnp.asarray(ids),
    'text_mask': jnp.asarray(mask),
    'image': jnp.asarray(images),
  }
  if isinstance(loaded, idefics3.Model):
    absent = np.asarray([[1, 1], [1, 0], [0, 0]])[:, :, None, None, None]
    pixels = torch.tensor(images * absent).permute(0, 1, 4, 2, 3)
    theirs['pixel_values'] = pixels.float()
  if loaded.module.image_blocks:
    theirs['token_type_ids'] = torch.tensor(ids == models.SEEN).long()
  if loaded.module.prefix_lm:
    # The last two tokens that are there see what is before them alone.
    ends = mask.sum(axis=1)[:, None] - 2
    prefix = mask & (np.arange(ids.shape[1])[None] < ends)
    prefix = mask if left else prefix
    theirs['token_type_ids'] = torch.tensor(~prefix & mask).long()
    ours['prefix_mask'] = jnp.asarray(prefix)
  return theirs, ours
