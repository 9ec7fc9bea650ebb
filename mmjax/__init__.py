"""mmjax: multimodal models in JAX and Flax, trained under one loop."""

__version__ = '0.1.0'
