"""Encodes many values to a file; a killed process is resumed."""

import collections
import dataclasses
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

import numpy as np

from mmjax.data import import_report
from mmjax.errors import ConfigError
from mmjax.inference import encoders, index, inputs
from mmjax.inference import opened as opened_lib
from mmjax.runs import owner

ON_ERROR = ('stop', 'skip')
# Values in one part, rounded up to whole batches.
_PART = 512
# Batches that are read ahead of the one that is encoded.
_AHEAD = 2
_SECONDS = 10  # Between two lines about progress.


@dataclasses.dataclass(frozen=True)
class Options:
  """How to encode.

  Attributes:
    batch_size: values that are encoded at once; the last batch is filled up.
    on_error: 'stop' at a value that can't be read, or 'skip' it.
    overwrite: whether an existing output is replaced.
    num_threads: threads that read values.
  """

  batch_size: int = 64
  on_error: str = 'stop'
  overwrite: bool = False
  num_threads: int = 4


@dataclasses.dataclass(frozen=True)
class Part:
  """Some values in a row, encoded.

  Attributes:
    rows: numbers of those that could be read.
    embeddings: float32 [len(rows), E].
    skipped: name and reason of the others.
  """

  rows: np.ndarray
  embeddings: np.ndarray
  skipped: Sequence[tuple[str, str]]


def embed(
  model: opened_lib.Opened,
  encoder: encoders.Encoder,
  items: inputs.Items,
  output: Path,
  options: Options,
) -> index.Index:
  """Encodes values to a file.

  Parts are kept in `OUTPUT.parts` until all are there, so that the same call
  resumes after a kill, with the same result. Values that were skipped are
  listed in `OUTPUT.skipped.jsonl`.

  Args:
    model: the model.
    encoder: one of its encoders.
    items: values of the encoder's kind.
    output: file to write, .npz or .parquet.
    options: how.

  Raises:
    ConfigError: if the output exists, another process writes it, parts of
      something else are there, a value can't be read and isn't to be skipped,
      or none can.
  """
  check_output(output, options)
  folder = find_parts(output)
  with owner.claim(folder, log=lambda message: None, flag='output'):
    # Another process may have written it until now.
    check_output(output, options)
    return _embed(model, encoder, items, output, folder, options)


def find_parts(output: Path) -> Path:
  """The folder of the parts of an output that is not whole yet."""
  return output.with_name(f'{output.name}.parts')


def _embed(
  model: opened_lib.Opened,
  encoder: encoders.Encoder,
  items: inputs.Items,
  output: Path,
  folder: Path,
  options: Options,
) -> index.Index:
  number = -(-_PART // options.batch_size) * options.batch_size
  starts = range(0, len(items), number)
  _open_parts(folder, _plan(model, encoder, items, options), options.overwrite)
  done = [start for start in starts if _path(folder, start).exists()]
  if done:
    print(f'{folder}: resume, {len(done)} of {len(starts)} parts are done')
  rest = [start for start in starts if start not in set(done)]
  progress = _Progress(sum(_count(items, s, number) for s in rest), items.kind)
  with futures.ThreadPoolExecutor(options.num_threads) as pool:
    batches = (
      range(i, min(i + options.batch_size, start + number, len(items)))
      for start in rest
      for i in range(start, min(start + number, len(items)), options.batch_size)
    )
    ahead = _read_ahead(pool, encoder, items, batches)
    try:
      for start in rest:
        size = -(-_count(items, start, number) // options.batch_size)
        _save_part(
          _path(folder, start),
          _encode_part(encoder, items, ahead, size, options, progress),
        )
    finally:
      pool.shutdown(cancel_futures=True)
  parts = [_load_part(_path(folder, start)) for start in starts]
  skipped = [pair for part in parts for pair in part.skipped]
  if skipped and options.on_error == 'stop':  # By an earlier call.
    raise _unreadable(*skipped[0])
  result = _join(model, encoder, items, parts)
  index.save(result, output)
  _write_skipped(output, skipped)
  shutil.rmtree(folder)
  return result


def check_output(output: Path, options: Options) -> None:
  """Refuses an output or options that are not legal, before any work.

  Raises:
    ConfigError: if it exists already, or has another ending.
  """
  index.check_path(output)
  if options.on_error not in ON_ERROR:
    raise ConfigError(
      f'on_error {options.on_error!r} is unknown; use one of {ON_ERROR}'
    )
  if options.batch_size < 1:
    raise ConfigError(
      f'--batch_size={options.batch_size} is not legal; use 1 or more'
    )
  if not output.parent.is_dir():
    raise ConfigError(f'--output={output}: there is no folder {output.parent}')
  if output.exists() and not options.overwrite:
    raise ConfigError(
      f'{output} exists; name another --output, or replace it with --overwrite'
    )


def encode_padded(
  encoder: encoders.Encoder, examples: Sequence[Any], size: int
) -> np.ndarray:
  """Encodes up to `size` prepared values as a batch of that size.

  Returns:
    float32 [len(examples), E].
  """
  filled = [*examples, *[examples[-1]] * (size - len(examples))]
  vectors = encoder.encode(filled)[: len(examples)]
  return np.asarray(vectors, np.float32)


def _count(items: inputs.Items, start: int, number: int) -> int:
  return min(number, len(items) - start)


def _plan(
  model: opened_lib.Opened,
  encoder: encoders.Encoder,
  items: inputs.Items,
  options: Options,
) -> dict[str, Any]:
  """What parts depend on: those of another plan are not resumed."""
  return {
    'weights': model.checksum,
    'feature': encoder.feature,
    'values': items.fingerprint,
    'batch size': options.batch_size,
  }


def _open_parts(folder: Path, plan: dict[str, Any], overwrite: bool) -> None:
  """Makes the folder of the parts, or checks that it is of the same plan."""
  path = folder / 'plan.json'
  if path.exists():
    before = json.loads(path.read_text())
    changed = [key for key in plan if before.get(key) != plan[key]]
    if not changed:
      return
    if not overwrite:
      raise ConfigError(
        f'{folder} has parts of another call, with other '
        f'{" and other ".join(changed)}; repeat that call, or begin again with '
        '--overwrite'
      )
  for path_before in folder.iterdir():
    if path_before.name != owner.FILE:  # By which this process has the folder.
      path_before.unlink()
  temporary = folder / 'plan.partial'
  temporary.write_text(json.dumps(plan))
  os.replace(temporary, path)


def _read_ahead(
  pool: futures.Executor,
  encoder: encoders.Encoder,
  items: inputs.Items,
  batches: Iterator[range],
) -> Iterator[list[tuple[int, futures.Future]]]:
  """Batches whose values are prepared in threads, some batches ahead."""

  def prepare(i: int) -> Any:
    value = items.get(i)
    if value is None:
      raise ConfigError(f'the record has no {items.kind}')
    if items.is_stored:
      return encoder.prepare_stored(value)
    return encoder.prepare(value)

  waiting: collections.deque = collections.deque()
  for batch in batches:
    waiting.append([(i, pool.submit(prepare, i)) for i in batch])
    if len(waiting) > _AHEAD:
      yield waiting.popleft()
  yield from waiting


def _encode_part(
  encoder: encoders.Encoder,
  items: inputs.Items,
  ahead: Iterator[list[tuple[int, futures.Future]]],
  number: int,
  options: Options,
  progress: '_Progress',
) -> Part:
  """Encodes the next batches, as many as a part has."""
  rows, vectors, skipped = [], [], []
  for _ in range(number):
    batch = next(ahead)
    examples = []
    for i, future in batch:
      try:
        examples.append(future.result())
      except (ConfigError, OSError) as error:
        if options.on_error == 'stop':
          raise _unreadable(items.names[i], str(error)) from error
        skipped.append((items.names[i], str(error)))
        continue
      rows.append(i)
    if examples:
      vectors.append(encode_padded(encoder, examples, options.batch_size))
    progress.add(len(batch))
  embeddings = np.concatenate(vectors) if vectors else np.zeros((0, 0))
  return Part(np.asarray(rows, np.int64), embeddings, skipped)


def _unreadable(name: str, reason: str) -> ConfigError:
  shown = reason if name in reason else f'{name}: {reason}'
  return ConfigError(
    f'{shown}; repair it, or leave what is unreadable out with --on_error=skip'
  )


def _path(folder: Path, start: int) -> Path:
  return folder / f'{start:012d}.npz'


def _save_part(path: Path, part: Part) -> None:
  temporary = path.with_suffix('.partial')
  with temporary.open('wb') as file:
    np.savez(
      file,
      rows=part.rows,
      embeddings=part.embeddings,
      skipped=np.asarray(json.dumps(part.skipped)),
    )
  os.replace(temporary, path)


def _load_part(path: Path) -> Part:
  with np.load(path, allow_pickle=False) as file:
    skipped = [tuple(pair) for pair in json.loads(str(file['skipped']))]
    return Part(file['rows'], file['embeddings'], skipped)


def _join(
  model: opened_lib.Opened,
  encoder: encoders.Encoder,
  items: inputs.Items,
  parts: Sequence[Part],
) -> index.Index:
  """One index of all parts.

  Raises:
    ConfigError: if no value could be read.
  """
  rows = np.concatenate([part.rows for part in parts])
  if not len(rows):
    name, reason = parts[0].skipped[0]
    raise ConfigError(
      f'none of {len(items)} {items.kind}s can be read; the first is {name}: '
      f'{reason}'
    )
  vectors = np.concatenate([p.embeddings for p in parts if len(p.rows)])
  norms = np.linalg.norm(vectors, axis=1)
  return index.Index(
    names=[items.names[i] for i in rows],
    embeddings=vectors,
    model=model.describe(),
    checksum=model.checksum,
    kind=items.kind,
    feature=encoder.feature,
    # Of half precision too.
    normalised=bool(np.abs(norms - 1).max() < 1e-2),
    origin=items.origin,
  )


def _write_skipped(output: Path, skipped: Sequence[tuple[str, str]]) -> None:
  path = output.with_name(f'{output.name}.{import_report.SKIPPED_FILE}')
  path.unlink(missing_ok=True)
  if skipped:
    entries = [
      json.dumps({'where': name, 'reason': reason}, ensure_ascii=False)
      for name, reason in skipped
    ]
    path.write_text('\n'.join(entries) + '\n')
    print(f'{len(skipped):,} unreadable: see {path}', file=sys.stderr)


class _Progress:
  """Prints how far long work is, from time to time."""

  def __init__(self, total: int, kind: str):
    self._total, self._kind = total, kind
    self._done = self._counted = 0
    self._start = self._last = 0.0

  def add(self, number: int) -> None:
    """Counts encoded values; the first batch compiles, and isn't timed."""
    now = time.monotonic()
    self._done += number
    if not self._start:
      self._start = self._last = now
      self._counted = self._done
    elif now - self._last > _SECONDS:
      self._last = now
      speed = (self._done - self._counted) / (now - self._start)
      left = (self._total - self._done) / speed
      print(
        f'{self._done:,} of {self._total:,} {self._kind}s, {speed:.1f}/s, '
        f'{left / 60:.1f} min left',
        file=sys.stderr,
      )
