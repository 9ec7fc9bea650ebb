"""Recalls of retrieval among 100,000 pairs, by mmjax and by faiss.

Both compare all images with all texts, in both directions.
"""

import numpy as np

from benchmarks.sides.work import Work

_PAIRS, _WIDTH = 100_000, 64
_KS = (1, 5, 10)


def make_mmjax(tiny: bool) -> Work:
  """mmjax's recalls, which are of exact ranks."""
  from mmjax.metrics import retrieval

  images, texts = _draw(tiny)

  def run():
    found = retrieval.recall_of_embeddings(images, texts, ks=_KS)
    return [
      found[f'{direction}_r{k}']
      for direction in ('image_to_text', 'text_to_image')
      for k in _KS
    ]

  # Nothing is compiled.
  return Work(run, {'output': run()}, warm=0)


def make_faiss(tiny: bool) -> Work:
  """Recalls of the ten nearest in faiss' index of all vectors."""
  import faiss

  images, texts = _draw(tiny)

  def run():
    recalls = []
    for queries, values in ((images, texts), (texts, images)):
      index = faiss.IndexFlatIP(values.shape[1])
      index.add(values)
      _, nearest = index.search(queries, max(_KS))  # [N, 10]
      right = nearest == np.arange(len(queries))[:, None]
      recalls += [float(right[:, :k].any(axis=1).mean()) for k in _KS]
    return recalls

  return Work(run, {'output': run()}, warm=0)


def _draw(tiny: bool) -> tuple[np.ndarray, np.ndarray]:
  """Unit vectors [N, E] of images and texts; pairs are near each other."""
  rng = np.random.default_rng(0)
  shape = (200, 8) if tiny else (_PAIRS, _WIDTH)
  images = rng.normal(size=shape)
  texts = images + rng.normal(size=shape)
  unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
  return tuple(unit(x).astype(np.float32) for x in (images, texts))
