"""Writes prepared data sets: a TFDS builder and its tokenizer.

A data set is written to a hidden folder and renamed when it is complete, so an
interrupted or failed build leaves nothing half-readable.
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

# Number of texts a vocabulary is learnt from; bounds time and memory.
_MAX_TEXTS = 200_000
_UNFINISHED = '.unfinished-'


class RecordBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """A TFDS data set of mmjax records, written without TensorFlow.

  Subclasses set `VERSION` and the attributes below, and return the records of
  each split from `read_splits`.

  Attributes:
    SUMMARY: a sentence about the data set.
    VOCAB_SIZE: largest number of ids of its tokenizer.
    LOWER: whether the tokenizer lower-cases texts.
    SCHEMA: fields of the records.
    TEXT_FIELDS: metadata fields whose texts the tokenizer also learns from.
  """

  SUMMARY = ''
  VOCAB_SIZE = 8192
  LOWER = False
  SCHEMA = records.Schema()
  TEXT_FIELDS: tuple[str, ...] = ()

  # Nothing is downloaded, so TFDS must not search the package for checksums:
  # that needs importlib_resources, which TFDS doesn't install.
  url_infos = None

  def __init__(self, **kwargs):
    self.progress = Progress(self.name, enabled=False)
    self._texts = []  # One list for each record.
    self._num_texts = 0
    self._stride = 1
    self._seen = 0
    self._complete = set(self.SCHEMA.kinds)  # Fields of all records so far.
    self._answers = collections.defaultdict(collections.Counter)  # By split.
    super().__init__(file_format='array_record', **kwargs)

  def read_splits(self) -> dict[str, Iterable[records.Record]]:
    """Returns records by split; they are read one split after another."""
    raise NotImplementedError

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description=self.SUMMARY,
      features=self.SCHEMA.make_tfds_features(),
    )

  def _split_generators(self, dl_manager):
    del dl_manager  # Nothing is ever downloaded.
    splits = self.read_splits()
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
      for entry in record['fields'].get('questions') or ():
        answers.update(entry['answers'])
      fields = record['fields']
      self._complete = {n for n in self._complete if fields.get(n) is not None}
      self.progress.tick()
      yield record['id'], self.SCHEMA.encode(record)

  def _learn_from(self, record: records.Record) -> None:
    # Keeps the texts of every record until there are enough, then of every
    # second and so on, so that they are from the whole data set.
    if self._seen % self._stride == 0:
      texts = list(self.SCHEMA.list_texts(record))
      for field in self.TEXT_FIELDS:
        value = record['metadata'].get(field, [])
        texts += map(str, value if isinstance(value, list) else [value])
      self._texts.append(texts)
      self._num_texts += len(texts)
    self._seen += 1
    if self._num_texts > _MAX_TEXTS:
      del self._texts[1::2]
      self._num_texts = sum(map(len, self._texts))
      self._stride *= 2

  def _download_and_prepare(self, *args, **kwargs):
    super()._download_and_prepare(*args, **kwargs)
    # At this point `data_path` is the unfinished folder that TFDS renames.
    folder = pathlib.Path(self.data_path)
    records.Schema(self.SCHEMA.kinds, self._complete).save(folder)
    self.write_further_files(folder)

  def write_further_files(self, folder: pathlib.Path) -> None:
    """Writes the files beside the records: tokenizer and answer counts."""
    if self._num_texts:
      texts = itertools.chain.from_iterable(self._texts)
      tokenizer = tokenizers.train_bpe(texts, self.VOCAB_SIZE, lower=self.LOWER)
      tokenizer.save(folder / records.TOKENIZER_FILE)
    counts = json.dumps(self._answers, ensure_ascii=False)
    (folder / records.ANSWERS_FILE).write_text(counts, encoding='utf-8')


class Progress:
  """Progress line on stderr, rewritten in place on a terminal."""

  def __init__(self, name: str, *, enabled: bool = True, every: float = 0.5):
    self.name = name
    self._enabled = enabled
    self._every = every
    self.begin('')

  def begin(self, stage: str) -> None:
    """Starts a stage of the work, with a count of 0."""
    self.count = 0
    self._label = f'{self.name}, {stage}' if stage else self.name
    self._start = self._last = time.monotonic()

  def tick(self) -> None:
    """Counts one more record."""
    self.count += 1
    now = time.monotonic()
    if self._enabled and sys.stderr.isatty() and now - self._last > self._every:
      self._last = now
      rate = self.count / (now - self._start)
      line = f'\r{self._label}: {self.count:,} records, {rate:,.0f} a second'
      print(f'{line:<70}', end='', file=sys.stderr, flush=True)

  def finish(self, where: os.PathLike) -> None:
    """Prints the number of records written, and their folder."""
    if self._enabled:
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
  """Writes a data set completely or not at all.

  If two processes build the same data set at once, both do the work and the
  first to finish provides it.

  Args:
    make: function that makes the builder for a data_dir.
    data_dir: folder of all data sets; created if missing.
    overwrite: whether to replace an existing data set of this name, which stays
      in place until the new one is complete.
    progress: whether to show a progress line.

  Returns:
    The folder of the version, with its `dataset_info.json`.
  """
  data_dir = pathlib.Path(data_dir).expanduser().resolve()
  target = pathlib.Path(make(os.fspath(data_dir)).data_dir)
  if target.exists() and not overwrite:
    return target
  with make_staging_folder(data_dir) as tmp:
    builder = make(tmp)
    builder.progress = Progress(_format_name(builder), enabled=progress)
    with _hide_output(), buckets.patch_tfds():
      builder.download_and_prepare(download_dir=os.path.join(tmp, 'downloads'))
    staged = pathlib.Path(builder.data_dir)
    _publish(staged, target, overwrite=overwrite)
    _publish_default_config(pathlib.Path(tmp), data_dir, builder.name)
  builder.progress.finish(target)
  return target


@contextlib.contextmanager
def make_staging_folder(data_dir: pathlib.Path) -> Iterator[str]:
  """Makes a hidden folder in `data_dir`, which is removed at the end.

  Folders of killed processes are removed first: nobody holds their lock.
  """
  data_dir.mkdir(parents=True, exist_ok=True)
  for lock in data_dir.glob(f'{_UNFINISHED}*/lock'):
    with contextlib.suppress(OSError), lock.open() as file:
      # The process of a new folder may not have locked it yet.
      if time.time() - lock.stat().st_mtime > 60:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(lock.parent)
  with (
    tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=data_dir) as folder,
    open(os.path.join(folder, 'lock'), 'w') as file,
  ):
    fcntl.flock(file, fcntl.LOCK_EX)
    yield folder


def _format_name(builder: RecordBuilder) -> str:
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
    # Another process published the same data set first.
    if not (target / 'dataset_info.json').exists():
      raise


def _publish_default_config(
  staging: pathlib.Path, data_dir: pathlib.Path, name: str
) -> None:
  """Publishes the file that maps 'shapes' to its default 'shapes/full'."""
  source = staging / name / '.config'
  target = data_dir / name / '.config'
  if source.exists() and not target.exists():
    with contextlib.suppress(OSError):  # Another process was first.
      shutil.copytree(source, staging / 'config').rename(target)


@contextlib.contextmanager
def _hide_output() -> Iterator[None]:
  """Hides what TFDS prints; its progress bars repeat `Progress`."""
  tfds.disable_progress_bar()
  try:
    with contextlib.redirect_stdout(io.StringIO()):
      yield
  finally:
    tfds.enable_progress_bar()
