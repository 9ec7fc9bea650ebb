"""Encodes frames as videos."""

import io
from collections.abc import Sequence

import av
import numpy as np


def encode(
  frames: Sequence[np.ndarray],
  rate: int,
  format: str = 'mp4',
  codec: str = 'mpeg4',
) -> bytes:
  """A file of frames uint8 [H, W, 3] of even sides, `rate` a second."""
  file = io.BytesIO()
  with av.open(file, 'w', format=format) as container:
    stream = container.add_stream(codec, rate=rate)
    stream.height, stream.width = frames[0].shape[:2]
    stream.pix_fmt = 'yuv420p'
    for image in frames:
      frame = av.VideoFrame.from_ndarray(image, format='rgb24')
      container.mux(stream.encode(frame))
    container.mux(stream.encode())
  return file.getvalue()
