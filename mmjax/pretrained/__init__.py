"""Hugging Face folders in and out; neither PyTorch nor transformers needed."""

from mmjax.pretrained.checkpoint import Pretrained, load, save

__all__ = ['Pretrained', 'load', 'save']
