"""Writes golden_ids.json: what transformers makes of older tokenizer files.

python -m tests.pretrained.make_golden_ids
"""

import json
import pathlib
import tempfile

import transformers

from tests.pretrained import older_tokenizers

FILE = pathlib.Path(__file__).parent / 'golden_ids.json'


def main() -> None:
  out = {}
  for which in older_tokenizers.FOLDERS:
    with tempfile.TemporaryDirectory() as folder:
      older_tokenizers.write(pathlib.Path(folder), which)
      theirs = transformers.AutoTokenizer.from_pretrained(folder)
    out[which] = [theirs(text)['input_ids'] for text in older_tokenizers.TEXTS]
  rows = [
    f'{json.dumps(which)}: {json.dumps(ids, separators=(",", ":"))}'
    for which, ids in out.items()
  ]
  FILE.write_text('{\n' + ',\n'.join(rows) + '\n}\n')


if __name__ == '__main__':
  main()
