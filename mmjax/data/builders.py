"""Writing prepared data sets: a TFDS builder and its tokenizer.

A data set appears in one rename. Until then it is in a hidden folder that no
reader looks at, so an interrupted or failed build leaves nothing to read.
"""

import collections
import contextlib
import fcntl
import io
import itertools
import json
import os
import pathlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator

import tensorflow_datasets as tfds

from mmjax.data import buckets, records, tokenizers

# Enough texts to learn a vocabulary from; bounds time and memory.
_MOST_TEXTS = 200_000
_UNFINISHED = '.unfinished-'


class RecordBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """A TFDS data set of mmjax records, written without TensorFlow.

  Subclasses set `VERSION` and what is below, and say in `record_splits` what
  the splits hold.

  Attributes:
    SUMMARY: a sentence about the data set.
    VOCAB_SIZE: most ids of its tokenizer.
    LOWER: whether the tokenizer lower-cases.
    TEXT_FIELDS: metadata fields whose texts the tokenizer also learns from.
  """

  SUMMARY = ''
  VOCAB_SIZE = 8192
  LOWER = False
  TEXT_FIELDS: tuple[str, ...] = ()

  # Nothing is downloaded, so there are no checksums for TFDS to look for in the
  # package (which needs importlib_resources, that it doesn't install).
  url_infos = None

  def __init__(self, **kwargs):
    self.progress = Progress(self.name, shown=False)
    self._texts = []  # A list a record.
    self._num_texts = 0
    self._stride = 1
    self._seen = 0
    self._answers = collections.defaultdict(collections.Counter)  # By split.
    super().__init__(file_format='array_record', **kwargs)

  def record_splits(self) -> dict[str, Iterable[records.Record]]:
    """Records by split; consumed one split after another, in this order."""
    raise NotImplementedError

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self, description=self.SUMMARY, features=records.FEATURES
    )

  def _split_generators(self, dl_manager):
    del dl_manager  # Nothing is ever downloaded.
    splits = self.record_splits()
    learn_from = 'train' if 'train' in splits else next(iter(splits))
    return {
      split: self._generate_examples(split_records, split, learn_from)
      for split, split_records in splits.items()
    }

  def _generate_examples(self, split_records, split, learn_from):
    answers = self._answers[split]
    for record in split_records:
      if split == learn_from:
        self._learn_from(record)
      for entry in record['questions']:
        answers.update(entry['answers'])
      self.progress.tick()
      yield record['id'], records.encode_record(record)

  def _learn_from(self, record: records.Record) -> None:
    # Every record until there are enough texts, then every second, and so on:
    # that way they come from all of the data set.
    if self._seen % self._stride == 0:
      texts = list(record['captions'])
      for entry in record['questions']:
        texts += [entry['question'], *entry['answers']]
      for field in self.TEXT_FIELDS:
        value = record['metadata'].get(field, [])
        texts += map(str, value if isinstance(value, list) else [value])
      self._texts.append(texts)
      self._num_texts += len(texts)
    self._seen += 1
    if self._num_texts > _MOST_TEXTS:
      del self._texts[1::2]
      self._num_texts = sum(map(len, self._texts))
      self._stride *= 2

  def _download_and_prepare(self, *args, **kwargs):
    super()._download_and_prepare(*args, **kwargs)
    # At this point `data_path` is the unfinished folder that TFDS renames.
    self.write_further_files(pathlib.Path(self.data_path))

  def write_further_files(self, folder: pathlib.Path) -> None:
    """Writes what belongs beside the records: tokenizer and answer counts."""
    texts = itertools.chain.from_iterable(self._texts)
    tokenizer = tokenizers.train_bpe(texts, self.VOCAB_SIZE, lower=self.LOWER)
    tokenizer.save(folder / records.TOKENIZER_FILE)
    counts = json.dumps(self._answers, ensure_ascii=False)
    (folder / records.ANSWERS_FILE).write_text(counts, encoding='utf-8')


class Progress:
  """One line on stderr, rewritten in place on a terminal."""

  def __init__(self, name: str, *, shown: bool = True, every: float = 0.5):
    self.name = name
    self._shown = shown
    self._every = every
    self.begin('')

  def begin(self, stage: str) -> None:
    """Counts from 0, for a stage of the work with this name."""
    self.count = 0
    self._label = f'{self.name}, {stage}' if stage else self.name
    self._start = self._last = time.monotonic()

  def tick(self) -> None:
    """Counts one more record."""
    self.count += 1
    now = time.monotonic()
    if self._shown and sys.stderr.isatty() and now - self._last > self._every:
      self._last = now
      rate = self.count / (now - self._start)
      line = f'\r{self._label}: {self.count:,} records, {rate:,.0f} a second'
      print(f'{line:<70}', end='', file=sys.stderr, flush=True)

  def done(self, where: os.PathLike) -> None:
    """Ends the line with what was written where."""
    if self._shown:
      seconds = time.monotonic() - self._start
      line = f'{self.name}: {self.count:,} records in {seconds:.1f} s, {where}'
      if sys.stderr.isatty():
        line = f'\r{line:<70}'
      print(line, file=sys.stderr, flush=True)


def build(
  make: Callable[[str], RecordBuilder],
  data_dir: str | os.PathLike,
  *,
  overwrite: bool = False,
  progress: bool = True,
) -> pathlib.Path:
  """Writes a data set, all of it or nothing.

  Two processes that build the same data set at once both do the work, and the
  first to finish provides it.

  Args:
    make: makes the builder for a given data_dir.
    data_dir: where data sets live; made if missing.
    overwrite: whether to replace what is there; it stays in place until the new
      one is complete.
    progress: whether to show a progress line.

  Returns:
    The folder of the version, which holds `dataset_info.json`.
  """
  data_dir = pathlib.Path(data_dir).expanduser().resolve()
  target = pathlib.Path(make(os.fspath(data_dir)).data_dir)
  if target.exists() and not overwrite:
    return target
  with staging(data_dir) as tmp:
    builder = make(tmp)
    builder.progress = Progress(_full_name(builder), shown=progress)
    with _quiet(), buckets.as_files():
      builder.download_and_prepare(download_dir=os.path.join(tmp, 'downloads'))
    staged = pathlib.Path(builder.data_dir)
    _publish(staged, target, overwrite=overwrite)
    _publish_default_config(pathlib.Path(tmp), data_dir, builder.name)
  builder.progress.done(target)
  return target


@contextlib.contextmanager
def staging(data_dir: pathlib.Path) -> Iterator[str]:
  """A hidden folder in `data_dir` to write in, which is removed in the end.

  A killed process can't clean up, so those of dead processes are removed first:
  theirs is the lock that nobody holds.
  """
  data_dir.mkdir(parents=True, exist_ok=True)
  for lock in data_dir.glob(f'{_UNFINISHED}*/lock'):
    with contextlib.suppress(OSError), lock.open() as file:
      # A new folder's lock may be about to be taken.
      if time.time() - lock.stat().st_mtime > 60:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(lock.parent)
  with (
    tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=data_dir) as folder,
    open(os.path.join(folder, 'lock'), 'w') as file,
  ):
    fcntl.flock(file, fcntl.LOCK_EX)
    yield folder


def _full_name(builder: RecordBuilder) -> str:
  config = builder.builder_config
  return f'{builder.name}/{config.name}' if config else builder.name


def _publish(
  staged: pathlib.Path, target: pathlib.Path, *, overwrite: bool
) -> None:
  target.parent.mkdir(parents=True, exist_ok=True)
  if overwrite and target.exists():
    target.rename(staged.parent / 'replaced')
  try:
    staged.rename(target)
  except OSError:
    # Another process was first, which is as good.
    if not (target / 'dataset_info.json').exists():
      raise


def _publish_default_config(
  staging: pathlib.Path, data_dir: pathlib.Path, name: str
) -> None:
  """Keeps the file by which 'shapes' is known to mean 'shapes/full'."""
  source = staging / name / '.config'
  target = data_dir / name / '.config'
  if source.exists() and not target.exists():
    with contextlib.suppress(OSError):  # Another process was first.
      shutil.copytree(source, staging / 'config').rename(target)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Hides what TFDS prints; its progress bars repeat ours."""
  tfds.disable_progress_bar()
  try:
    with contextlib.redirect_stdout(io.StringIO()):
      yield
  finally:
    tfds.enable_progress_bar()
