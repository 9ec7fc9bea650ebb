"""Writes a small video classifier and what transformers computes with it.

Run it with the extra `oracles`, from the project's folder:

  python tests/pretrained/make_golden_video.py
"""

from pathlib import Path

import numpy as np
import PIL.Image
import torch
import transformers

FOLDER = Path(__file__).parent / 'golden' / 'videomae'


def videomae() -> None:
  """A classifier."""
  config = transformers.VideoMAEConfig(
    hidden_size=12,
    intermediate_size=20,
    num_hidden_layers=2,
    num_attention_heads=3,
    image_size=14,
    patch_size=7,
    num_frames=4,
    id2label={0: 'clapping', 1: 'running', 2: 'swimming'},
  )
  processor = transformers.VideoMAEImageProcessorPil(
    size={'shortest_edge': 16}, crop_size={'height': 14, 'width': 14}
  )
  torch.manual_seed(0)
  model = transformers.VideoMAEForVideoClassification(config).eval()
  with torch.no_grad():
    for parameter in model.parameters():
      parameter.copy_(torch.randn_like(parameter) * 0.5)
  model.save_pretrained(FOLDER)
  processor.save_pretrained(FOLDER)
  pixels = np.random.default_rng(0).integers(
    0, 256, (2, 4, 20, 23, 3), np.uint8
  )
  frames = [[PIL.Image.fromarray(f) for f in video] for video in pixels]
  with torch.no_grad():
    out = model(**processor(frames, return_tensors='pt'))
  np.savez(FOLDER / 'expected.npz', pixels=pixels, logits=out.logits.numpy())
  for path in FOLDER.iterdir():
    path.chmod(0o644)


if __name__ == '__main__':
  videomae()
