"""Writes small image encoders and what transformers computes with them.

Run it with the extra `oracles`, from the project's folder:

  python tests/pretrained/make_golden_image.py
"""

from pathlib import Path

import numpy as np
import PIL.Image
import torch
import transformers

FOLDER = Path(__file__).parent / 'golden'
LABELS = {0: 'tench', 1: 'goldfish', 2: 'great white shark'}
SIZES = {'hidden_size': 12, 'num_hidden_layers': 2, 'num_attention_heads': 3}


def vit() -> None:
  """A classifier."""
  config = transformers.ViTConfig(
    intermediate_size=20,
    image_size=21,
    patch_size=7,
    id2label=LABELS,
    **SIZES,
  )
  processor = transformers.ViTImageProcessorPil(
    size={'height': 21, 'width': 21}
  )
  _write('vit', transformers.ViTForImageClassification(config), processor)


def dinov2() -> None:
  """One whose position table has another size than its images."""
  config = transformers.Dinov2Config(
    image_size=20, patch_size=4, use_swiglu_ffn=True, **SIZES
  )
  _write('dinov2', transformers.Dinov2Model(config), _cropping())


def dinov2_with_registers() -> None:
  """The same with registers, and a classifier."""
  config = transformers.Dinov2WithRegistersConfig(
    image_size=20,
    patch_size=4,
    num_register_tokens=2,
    id2label=LABELS,
    **SIZES,
  )
  model = transformers.Dinov2WithRegistersForImageClassification(config)
  _write('dinov2_with_registers', model, _cropping())


def resnet() -> None:
  """A convolutional classifier."""
  config = transformers.ResNetConfig(
    embedding_size=4, hidden_sizes=[16, 32], depths=[1, 1], id2label=LABELS
  )
  processor = transformers.ConvNextImageProcessorPil(size={'shortest_edge': 26})
  model = transformers.ResNetForImageClassification(config)
  _write('resnet', model, processor)


def _cropping() -> transformers.BitImageProcessorPil:
  return transformers.BitImageProcessorPil(
    size={'shortest_edge': 16},
    crop_size={'height': 13, 'width': 13},
    image_mean=[0.485, 0.456, 0.406],
    image_std=[0.229, 0.224, 0.225],
  )


def _write(name, model, processor) -> None:
  folder = FOLDER / name
  torch.manual_seed(0)
  model = model.eval()
  with torch.no_grad():
    for parameter in model.parameters():
      parameter.copy_(torch.randn_like(parameter) * 0.2)
    for name, buffer in model.named_buffers():
      if name.endswith('running_mean'):
        buffer.copy_(torch.randn(buffer.shape) * 0.2)
      if name.endswith('running_var'):
        buffer.copy_(torch.rand(buffer.shape) * 0.1 + 0.05)
  model.save_pretrained(folder)
  processor.save_pretrained(folder)
  pixels = np.random.default_rng(0).integers(0, 256, (40, 31, 3), np.uint8)
  images = [PIL.Image.fromarray(pixels), PIL.Image.fromarray(pixels[:, ::-1])]
  inputs = processor(images, return_tensors='pt')
  with torch.no_grad():
    out = model(**inputs)
  expected = {'pixels': pixels}
  if 'logits' in out:
    expected['logits'] = out.logits.numpy()
  else:
    expected['tokens'] = out.last_hidden_state.numpy()
    expected['pooled'] = out.pooler_output.numpy()
  np.savez(folder / 'expected.npz', **expected)
  for path in folder.iterdir():
    path.chmod(0o644)


if __name__ == '__main__':
  vit()
  dinov2()
  dinov2_with_registers()
  resnet()
