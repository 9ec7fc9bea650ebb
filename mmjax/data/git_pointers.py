"""Pointers, which Git LFS leaves where large files were not downloaded."""

_START = b'version https://git-lfs'


def explain(start: bytes) -> str:
  """Explains that a file is a pointer; '' if it is another file.

  >>> explain(b'version https://git-lfs.github.com/spec/v1')
  'a pointer of Git LFS, not the file itself; run git lfs pull in its folder'

  Args:
    start: the first bytes of the file, at least 32 if it has them.
  """
  if not start.startswith(_START):
    return ''
  return (
    'a pointer of Git LFS, not the file itself; run git lfs pull in its folder'
  )
