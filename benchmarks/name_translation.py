"""Compares a model of configs/translate_names.py with translating by rules.

Prints, by pair of languages, the fraction of exact translations of the test
drawings and the chrF of

  model      the run, unless there is no --run, with the image if it reads one
  copy       the source itself
  nearest    the translation, in training, of the source whose TF-IDF of
             characters is most similar; in scikit-learn
  commonest  the commonest target in training

  python -m benchmarks.name_translation --run=runs/translate_names \
    --table=names.jsonl
"""

import argparse
import collections
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from sklearn.feature_extraction import text as sklearn_text

import mmjax
from mmjax.metrics import captions, translations

Row = Mapping[str, str]


def main() -> None:
  """Prints a table."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--run', type=pathlib.Path)
  parser.add_argument('--table', type=pathlib.Path, required=True)
  args = parser.parse_args()
  methods: dict[str, Callable] = {}
  if args.run:
    run = mmjax.load(args.run)
    methods['model'] = lambda _, rows: run.translate(
      **make_inputs(run.inputs, rows, args.table.parent)
    )
  methods |= {
    'copy': copy,
    'nearest': find_nearest,
    'commonest': repeat_commonest,
  }
  print('pair                 ' + ''.join(f'{name:>15}' for name in methods))
  for pair, train, test in read(args.table):
    references = [[row['target']] for row in test]
    cells = []
    for method in methods.values():
      texts = method(train, test)
      exact = captions.exact_match(texts, references)
      cells.append(f'{exact:9.3f} {translations.chrf(texts, references):5.3f}')
    print(f'{pair:15} {len(test):5}' + ''.join(cells), flush=True)


def read(path: pathlib.Path):
  """Yields pairs with their rows of training, and those to translate.

  A pair that training lacks gets the rows of training with its target language.
  """
  by_pair: dict[str, dict[str, list[Row]]] = {}
  for line in path.read_text('utf-8').splitlines():
    row = json.loads(line)
    splits = by_pair.setdefault(row['pair'], {'train': [], 'test': []})
    splits['train' if row['split'] == 'train' else 'test'].append(row)
  for pair, splits in by_pair.items():
    train = splits['train'] or [
      row
      for other, rows in by_pair.items()
      if other.split()[1] == pair.split()[1]
      for row in rows['train']
    ]
    yield pair, train, splits['test']


def make_inputs(
  names: Sequence[str], rows: Sequence[Row], folder: pathlib.Path
) -> dict[str, list]:
  """The inputs of a model, of some rows.

  Args:
    names: those that the model reads, of `source` and `image`.
    rows: rows of the table.
    folder: that of the table, to which paths of images are relative.
  """
  inputs: dict[str, list] = {'source': [row['source'] for row in rows]}
  if 'image' in names:
    inputs['image'] = [folder / row['image'] for row in rows]
  return inputs


def copy(train: Sequence[Row], test: Sequence[Row]) -> list[str]:
  """The sources without the name of a language."""
  del train
  return [row['source'].partition('> ')[2] for row in test]


def find_nearest(train: Sequence[Row], test: Sequence[Row]) -> list[str]:
  """The target of the most similar source in training."""
  vectorizer = sklearn_text.TfidfVectorizer(
    analyzer='char_wb', ngram_range=(1, 4)
  )
  known = vectorizer.fit_transform(row['source'] for row in train)
  found = vectorizer.transform(row['source'] for row in test)
  nearest = np.asarray((found @ known.T).todense()).argmax(axis=1)
  return [train[i]['target'] for i in nearest]


def repeat_commonest(train: Sequence[Row], test: Sequence[Row]) -> list[str]:
  """The commonest target in training, for each."""
  counts = collections.Counter(row['target'] for row in train)
  return [counts.most_common(1)[0][0]] * len(test)


if __name__ == '__main__':
  main()
