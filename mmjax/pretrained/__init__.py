"""Hugging Face folders in and out; neither PyTorch nor transformers needed."""

from mmjax.pretrained.base import Pretrained
from mmjax.pretrained.checkpoint import load, save, save_adapter

__all__ = ['Pretrained', 'load', 'save', 'save_adapter']
