"""What the page of `mmjax demo` asks of trained models: forms and answers."""

import dataclasses
import hashlib
import pathlib
import tempfile
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmjax.errors import ConfigError, check_choice
from mmjax.inference import abilities, encoders
from mmjax.inference import opened as opened_lib

# Kinds of inputs that are files; the others are written.
FILE_KINDS = ('image', 'sound', 'video')
_CACHED = 4096  # Number of image embeddings that are kept.


@dataclasses.dataclass(frozen=True)
class Upload:
  """A file that was dropped on the page.

  Attributes:
    name: its name, whose suffix says how it is read.
    content: its bytes.
  """

  name: str
  content: bytes


@dataclasses.dataclass(frozen=True)
class Answer:
  """What a model answers.

  Attributes:
    lines: what `mmjax predict` would print.
    drawings: images that it would draw, uint8 [H, W, 3] or None, each with the
      lines below it.
  """

  lines: Sequence[str]
  drawings: Sequence[tuple[np.ndarray | None, Sequence[str]]] = ()


class Demo:
  """Trained models behind one page.

  Args:
    models: opened models, whose names differ.

  Raises:
    ConfigError: if two have one name, or one can do nothing that the page
      shows.
  """

  def __init__(self, models: Sequence[opened_lib.Opened]):
    self._opened = {model.name: model for model in models}
    if len(self._opened) < len(models):
      raise ConfigError(
        f'{", ".join(model.name for model in models)}: give each model once'
      )
    self._models = {
      name: model.model
      if model.is_run
      else abilities.Published(model.model, name)
      for name, model in self._opened.items()
    }
    self._vectors: dict[tuple[str, str, bytes], np.ndarray] = {}
    # One program at a time: two would only share the same cores.
    self._lock = threading.Lock()
    self._described = [self._describe(name) for name in self._opened]

  def describe(self) -> list[dict[str, Any]]:
    """The models with what they can do, as JSON values.

    Each has its `name`, a `title`, `searches` (whether it finds images by
    texts) and `forms`, one for each task that `mmjax predict` can ask for:
    `task`, `ability`, `text` ('' or the flag whose texts it takes) and
    `inputs`, each with `name` and `kind`.
    """
    return self._described

  def answer(
    self,
    name: str,
    task: str,
    inputs: Mapping[str, str | Upload],
    texts: Sequence[str],
  ) -> Answer:
    """What `mmjax predict` would print and draw.

    Args:
      name: name of the model.
      task: name of one of its tasks.
      inputs: values of its inputs by name: files, texts or numbers.
      texts: texts to rank or continue, or one question.

    Raises:
      ConfigError: if the model, the task or an input does not exist, or a
        value can't be read.
    """
    model = self._models[self._check_name(name)]
    form = self._find_form(name, task)
    known = {entry['name'] for entry in form['inputs']}
    unknown = set(inputs) - known
    if unknown:
      raise ConfigError(
        f'{name}: {task} has no input {", ".join(sorted(unknown))}; it reads '
        f'{", ".join(sorted(known)) or "texts"}'
      )
    texts = [text for text in map(str.strip, texts) if text]
    if form['text'] and not texts:
      raise ConfigError(f'write a {form["text"]} first')
    flag = model.tasks[task].predict_use
    if flag.needs_inputs and not inputs:
      kinds = ' or '.join(entry['kind'] for entry in form['inputs'])
      raise ConfigError(f'add {kinds or "a file"} first')
    beam = None
    if self._opened[name].is_run:
      beam = model.config.eval.beam_size
    with self._lock, tempfile.TemporaryDirectory() as folder:
      values = _write(inputs, pathlib.Path(folder))
      try:
        lines = list(flag.make_lines(model, values, texts, beam))
        cells = flag.draw(model, values, texts) if flag.draw else ()
      except (ConfigError, OSError) as error:
        # The page knows files by the names that they were dropped with.
        message = str(error)
        for key, path in values.items():
          if isinstance(inputs[key], Upload):
            message = message.replace(path, inputs[key].name)
        raise ConfigError(message) from error

    return Answer(
      lines,
      [
        (image, [line if isinstance(line, str) else line[0] for line in below])
        for image, below in cells
      ],
    )

  def search(
    self, name: str, query: str, images: Sequence[Upload]
  ) -> list[tuple[int, float]]:
    """Images by how near they are to a text, the nearest first.

    Args:
      name: name of a model that embeds images and texts in one space.
      query: what to look for.
      images: the images; their vectors are kept for the next query.

    Returns:
      (position in `images`, cosine) of each.

    Raises:
      ConfigError: if the model can't, there is nothing to look for or in, or an
        image can't be read.
    """
    model = self._opened[self._check_name(name)]
    if not query.strip():
      raise ConfigError('write what to look for first')
    if not images:
      raise ConfigError('add images first')
    image = encoders.choose_encoder(model, 'image')
    text = encoders.choose_encoder(model, 'text')
    with self._lock:
      vectors = np.stack([self._embed(name, image, each) for each in images])
      vector = text.encode([text.prepare(query)])[0].astype(np.float32)
    # Row by row: what BLAS rounds depends on a row's place among the others.
    cosines = (_normalise(vectors) * _normalise(vector)).sum(axis=-1)
    best = np.argsort(-cosines, kind='stable')
    return [(int(i), float(cosines[i])) for i in best]

  def _embed(
    self, name: str, encoder: encoders.Encoder, image: Upload
  ) -> np.ndarray:
    """The vector of an image, computed once."""
    key = name, encoder.feature, hashlib.sha256(image.content).digest()
    if key not in self._vectors:
      with tempfile.TemporaryDirectory() as folder:
        path = _write({'image': image}, pathlib.Path(folder))['image']
        try:
          prepared = encoder.prepare(path)
        except (ConfigError, OSError) as error:
          message = str(error).replace(path, image.name)
          raise ConfigError(message) from error
      while len(self._vectors) >= _CACHED:
        del self._vectors[next(iter(self._vectors))]
      self._vectors[key] = encoder.encode([prepared])[0].astype(np.float32)
    return self._vectors[key]

  def _check_name(self, name: str) -> str:
    check_choice(name, self._opened, 'the model')
    return name

  def _find_form(self, name: str, task: str) -> dict[str, Any]:
    (found,) = (one for one in self._described if one['name'] == name)
    forms = {form['task']: form for form in found['forms']}
    check_choice(task, forms, f'{name}: the task')
    return forms[task]

  def _describe(self, name: str) -> dict[str, Any]:
    model, opened = self._models[name], self._opened[name]
    forms = [
      {
        'task': task_name,
        'ability': task.ability,
        'text': task.predict_use.flag,
        'inputs': _list_inputs(model, task, opened.is_run),
      }
      for task_name, task in model.tasks.items()
      if task.predict_use is not None
    ]
    kinds = [e.kind for e in encoders.list_encoders(opened).values()]
    searches = kinds.count('image') == kinds.count('text') == 1
    if not forms and not searches:
      raise ConfigError(f'{name}: {model.unable("be shown on a page")}')
    return {
      'name': name,
      'title': opened.describe(),
      'searches': searches,
      'forms': forms,
    }


def _list_inputs(model: Any, task: Any, is_run: bool) -> list[dict[str, str]]:
  """Inputs of a task, with their kinds."""
  if not is_run:
    return [{'name': task.needs, 'kind': task.needs}] if task.needs else []
  flag = task.predict_use
  if flag.needs_output_file and not flag.needs_inputs:
    return []  # Texts alone are drawn.
  if not model.inputs:  # At most images, beside the flag's texts.
    images = ['image'] if 'image' in model.preprocessor else []
    return [{'name': name, 'kind': name} for name in images]
  asked = {flag.feature}
  return [
    {'name': name, 'kind': model.preprocessor[name].encoded_as}
    for name in model.inputs
    if name not in asked
  ]


def _write(
  inputs: Mapping[str, str | Upload], folder: pathlib.Path
) -> dict[str, str]:
  """Values as `mmjax predict` takes them: files by their paths."""
  values = {}
  for i, (name, value) in enumerate(inputs.items()):
    if isinstance(value, Upload):
      path = folder / f'{i}{pathlib.PurePath(value.name).suffix}'
      path.write_bytes(value.content)
      value = str(path)
    values[name] = value
  return values


def _normalise(vectors: np.ndarray) -> np.ndarray:
  norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
  return vectors / np.maximum(norms, 1e-12)
