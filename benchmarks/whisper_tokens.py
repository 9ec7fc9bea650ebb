r"""Encodes the sounds of a table by a frozen Whisper, once for all epochs.

A frozen encoder gives the same tokens in every epoch, and on a CPU it takes
longer than all that is trained behind it. This writes a table of the same name
(on which the split of a row without an image depends) into another folder, with
the column `tokens` in place of `voice`: paths of .npy files [N, D], 12.5 tokens
a second:

  python -m benchmarks.whisper_tokens --model=FOLDER --input=prompts.csv \
    --output=whisper_tokens
  mmjax data import --format=csv --input=whisper_tokens/prompts.csv \
    --name=prompts_whisper --fields=tokens=series:tokens \
    --splits=train:0.8,test:0.2

The windows are as short as `--seconds`, where Whisper was trained with 30: its
positions are a table of which the first are used. Tokens of the silence after a
sound are left out. `benchmarks/debian_data.py` makes the table; FOLDER is a
Whisper as Hugging Face or CTranslate2 has it.
"""

import argparse
import csv
import pathlib
import time

import numpy as np

from mmjax import pretrained

_STRIDE = 320  # Samples of a token.
_MERGED = 4  # Tokens that are averaged.


def main() -> None:
  """Writes the table."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--model', type=pathlib.Path, required=True)
  parser.add_argument('--input', type=pathlib.Path, required=True)
  parser.add_argument('--output', type=pathlib.Path, required=True)
  parser.add_argument('--seconds', type=float, default=4.0)
  parser.add_argument('--batch_size', type=int, default=16)
  args = parser.parse_args()
  with args.input.open(newline='') as file:
    rows = list(csv.DictReader(file))
  model, start = pretrained.load(args.model), time.perf_counter()
  folder = args.output / args.input.stem
  folder.mkdir(parents=True, exist_ok=True)
  table = args.output / args.input.name
  if table.resolve() == args.input.resolve():
    parser.error(
      f'--output={args.output} would replace the input; name another'
    )
  for first in range(0, len(rows), args.batch_size):
    part = rows[first : first + args.batch_size]
    paths = [row.pop('voice') for row in part]
    encoded = encode(model, paths, args.seconds, args.batch_size)
    for row, tokens in zip(part, encoded, strict=True):
      path = folder / f'{row["id"].replace("/", "_")}.npy'
      np.save(path, tokens)
      row['tokens'] = str(path.resolve())
  with table.open('w', newline='') as file:
    writer = csv.DictWriter(file, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
  seconds = time.perf_counter() - start
  print(f'{len(rows)} sounds in {seconds:.0f} s, {table}')


def encode(
  model: pretrained.Pretrained, paths: list[str], seconds: float, number: int
) -> list[np.ndarray]:
  """Encodes sounds to tokens [N, D] each, without those of silence.

  Args:
    model: a Whisper.
    paths: files of the sounds, at most `number`.
    seconds: length of a window, to which sounds are cut.
    number: number of sounds in a compiled batch.
  """
  size = round(seconds * model.preprocessor.sample_rate)
  windows = np.zeros((number, size), np.float32)
  lengths = []
  for row, path in enumerate(paths):
    samples = model.preprocessor.read_samples(path)[:size]
    windows[row, : len(samples)] = samples
    lengths.append(max(1, -(-len(samples) // (_STRIDE * _MERGED))))
  spectrogram = model.preprocessor.spectrogram(windows)
  values = model.jit_method('encode_audio')(model.params, spectrogram).values
  values = np.asarray(values)[:, : values.shape[1] // _MERGED * _MERGED]
  merged = values.reshape(number, -1, _MERGED, values.shape[-1]).mean(axis=2)
  return [
    tokens[:length] for tokens, length in zip(merged, lengths, strict=False)
  ]


if __name__ == '__main__':
  main()
