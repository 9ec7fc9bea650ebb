"""Reads tars in WebDataset layout: KEY.png or KEY.jpg, KEY.txt, KEY.json."""

import functools
import json
import pathlib
import posixpath
import tarfile
from collections.abc import Iterator, Sequence

from mmjax.data import raw_records

IMAGE_ENDINGS = ('png', 'jpg', 'jpeg', 'webp', 'gif', 'bmp')

# Where a member's bytes lie in its tar: offset and size.
_Span = tuple[int, int]


def read(paths: Sequence[pathlib.Path]) -> Iterator[raw_records.RawRecord]:
  """The samples of some tars, one after another.

  Ids are TAR/KEY with the tar's name, which also becomes the metadata field
  `source`; the key becomes `key`.

  Args:
    paths: uncompressed tars whose samples' files are next to each other.

  Raises:
    ValueError: a tar is damaged or compressed, or two have the same name.
  """
  names = [path.stem for path in paths]
  for path in paths:
    if names.count(path.stem) > 1:
      raise ValueError(
        f'two tars are called {path.stem}, which would mix up their ids; '
        'rename one'
      )
  for path in paths:
    yield from _read_tar(path)


def _read_tar(path: pathlib.Path) -> Iterator[raw_records.RawRecord]:
  key, spans = None, {}
  name = 'its beginning'
  try:
    with tarfile.open(path, 'r:') as tar:
      for member in tar:
        name = member.name
        folder, file = posixpath.split(member.name)
        if not member.isfile() or file.startswith('.'):
          continue
        base, _, ending = file.partition('.')
        member_key = posixpath.join(folder, base).removeprefix('./')
        if member_key != key:
          if key is not None:
            yield _raw(path, key, spans)
          key, spans = member_key, {}
        spans[ending.lower()] = (member.offset_data, member.size)
        tar.members = []  # Or it keeps a description of every file.
      _check_end(path, tar.offset)
  except tarfile.TarError as error:
    raise ValueError(
      f"{path} can't be read beyond {name}: {error}; it should be a whole, "
      'uncompressed tar'
    ) from error
  if key is not None:
    yield _raw(path, key, spans)


def _check_end(path: pathlib.Path, offset: int) -> None:
  """Raises where the library takes a cut or overwritten tar for its end."""
  if _bytes(path, (offset, 512)) != bytes(512):
    raise tarfile.ReadError('the mark of its end is missing')


def _raw(
  path: pathlib.Path, key: str, spans: dict[str, _Span]
) -> raw_records.RawRecord:
  return raw_records.RawRecord(
    id=f'{path.stem}/{key}',
    where=f'{path.name}: {key}',
    group=key,
    read_fields=functools.partial(_fields, path, key, spans),
    read_image=functools.partial(_image, path, spans),
  )


def _fields(
  path: pathlib.Path, key: str, spans: dict[str, _Span]
) -> raw_records.Fields:
  fields = {}
  if 'json' in spans:
    try:
      fields = json.loads(_bytes(path, spans['json']))
    except ValueError as error:
      raise ValueError(f'its .json is not valid JSON: {error}') from error
    if not isinstance(fields, dict):
      raise ValueError(f'its .json holds no object, but {fields!r:.80}')
  if 'txt' in spans:
    text = _bytes(path, spans['txt']).decode()
    caption = fields.get('caption', [])
    if not isinstance(caption, dict):
      rest = caption if isinstance(caption, list) else [caption]
      fields['caption'] = [text, *rest]
  return {**fields, 'source': path.stem, 'key': key}


def _image(path: pathlib.Path, spans: dict[str, _Span]) -> bytes:
  for ending in spans:
    if ending in IMAGE_ENDINGS:
      return _bytes(path, spans[ending])
  raise ValueError(
    f'there is no image among its files (.{", .".join(spans)}); one should '
    f'end in {", ".join(IMAGE_ENDINGS)}'
  )


def _bytes(path: pathlib.Path, span: _Span) -> bytes:
  offset, size = span
  with path.open('rb') as file:
    file.seek(offset)
    return file.read(size)
