"""Measures a trained model on a data set by the evaluators of its tasks."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from PIL import Image

from mmjax import tasks
from mmjax.data import checks, feeds, sources
from mmjax.errors import ConfigError, suggest
from mmjax.inference import measures, targets, zero_shot
from mmjax.inference import opened as opened_lib
from mmjax.training import teachers


@dataclasses.dataclass(frozen=True)
class Options:
  """What to measure, and on which records.

  Attributes:
    data: name of the data set.
    split: its split.
    task: name of the only task to measure; '' for all that model and data
      can do.
    target: category that zero-shot classification predicts, a field or
      'metadata/NAME'; '' for none, or the only one of the data set if `task`
      asks for it.
    classes: names of the classes; empty for those of the records.
    templates: texts of a class, with {} for its name.
    gallery_by: metadata field whose values part retrieval; '' for one gallery.
    batch_size: number of examples at a time.
    num_examples: number of records, from the first; 0 for all.
    beam_size: beam size of written texts.
    max_new_tokens: largest number of tokens that a published model writes.
  """

  data: str
  split: str
  task: str = ''
  target: str = ''
  classes: Sequence[str] = ()
  templates: Sequence[str] = zero_shot.TEMPLATES
  gallery_by: str = ''
  batch_size: int = 64
  num_examples: int = 0
  beam_size: int = 1
  max_new_tokens: int = 20


@dataclasses.dataclass(frozen=True)
class Results:
  """What was measured.

  Attributes:
    number: number of records.
    values: numbers by name, such as 'retrieval/mean_r1'.
    rows: what the table shows of them.
    sheets: images of examples by the evaluator's name.
    notes: what was not measured, and why; and settings to report.
  """

  number: int
  values: Mapping[str, float]
  rows: Sequence[tasks.ReportRow]
  sheets: Mapping[str, Image.Image]
  notes: Sequence[str]


# What can't be measured raises ConfigError.
Make = Callable[[], measures.Measure]


def evaluate(
  model: opened_lib.Opened,
  source: sources.Source,
  options: Options,
  open_training: Callable[[Any], sources.Source],
) -> Results:
  """Measures a model.

  Args:
    model: the model.
    source: records.
    options: what to measure.
    open_training: function from a run's config to its training records, which
      tasks that compare with statistics of training need.

  Raises:
    ConfigError: if the model or the data can't do the task, or none of the
      model's; it says what is missing.
  """
  found = find(model, source, options, open_training)
  values, rows, sheets, notes, refused = {}, [], {}, [], []
  for name, make in found.items():
    try:
      measure = make()
      measured, drawn = _run(measure)
    except ConfigError as error:
      is_asked = options.target and name == zero_shot.NAME
      if options.task or len(found) == 1 or is_asked:
        raise ConfigError(f'--task={name}: {error}') from error
      refused.append(f'no evaluation of {name}: {error}')
      continue
    values |= measured
    sheets |= drawn
    # Those of a task that names no rows, by their own names.
    rows += measure.rows or [tasks.ReportRow(n, n) for n in measured]
    notes += measure.notes
  if not values:
    raise ConfigError('\n'.join(refused))
  return Results(
    min(options.num_examples or len(source), len(source)),
    values,
    list(dict.fromkeys(rows)),
    sheets,
    [*notes, *refused],
  )


def find(
  model: opened_lib.Opened,
  source: sources.Source,
  options: Options,
  open_training: Callable[[Any], sources.Source],
) -> dict[str, Make]:
  """What to measure, by task; the model's parameters are not needed yet.

  Args:
    model: model, as in `evaluate`.
    source: source, as in `evaluate`.
    options: options, as in `evaluate`.
    open_training: function, as in `evaluate`.

  Raises:
    ConfigError: if the model does nothing that can be measured, or not the task
      of the options.
  """
  found = _list_makes(model, source, options, open_training)
  if not found:
    raise ConfigError(f'{model.name}: {measures.explain_none(model)}')
  if options.task and options.task not in found:
    raise ConfigError(
      f'{model.name}: the model has no task {options.task!r}; it can be '
      f'measured by {", ".join(found)}{suggest(options.task, found)}'
    )
  return {options.task: found[options.task]} if options.task else found


def _run(
  measure: measures.Measure,
) -> tuple[dict[str, float], dict[str, Image.Image]]:
  values, sheets = {}, {}
  for name, evaluator in measure.evaluators.items():
    values |= dict(evaluator.run(measure.params))
    sheet = evaluator.render()
    if sheet is not None:
      sheets[name] = sheet
  return values, sheets


def _list_makes(
  model: opened_lib.Opened,
  source: sources.Source,
  options: Options,
  open_training: Callable[[Any], sources.Source],
) -> dict[str, Make]:
  """By task, what makes its evaluators."""
  found: dict[str, Make] = {}
  if model.is_run:
    for name, task in model.model.tasks.items():
      found[name] = lambda name=name, task=task: _of_task(
        model.model, name, task, source, options, open_training
      )
  else:
    for name, make in measures.list_published(model.model).items():
      found[name] = lambda make=make: make(model.model, source, options)
  if zero_shot.can_classify(model) and (
    options.task or options.target or targets.find(source)
  ):
    found[zero_shot.NAME] = lambda: zero_shot.make(model, source, options)
  return found


def _of_task(
  run: Any,
  name: str,
  task: tasks.Task,
  source: sources.Source,
  options: Options,
  open_training: Callable[[Any], sources.Source],
) -> measures.Measure:
  """The evaluators of a run's task.

  Raises:
    ConfigError: if the data lack what it needs.
  """
  lacking = _find_lacking(run, name, task, source, options)
  config = run.config.copy_and_resolve_references()
  with config.unlocked():
    config.data.name = options.data
    config.eval.batch_size = options.batch_size
    config.eval.num_examples = options.num_examples
    config.eval.beam_size = options.beam_size
    config.eval.gallery_by = options.gallery_by or config.eval.gallery_by
  is_masked = isinstance(task, tasks.Masked)
  context = tasks.EvalContext(
    model=run.module,
    source=source,
    # Words are compared with their frequencies in training.
    train_source=open_training(run.config) if is_masked else source,
    preprocessor=run.preprocessor,
    config=config,
    inputs=run.inputs,
    lacking=lacking,
    tasks=run.tasks,
    judges=teachers.load_judges({name: task}, run.preprocessor),
  )
  built = tasks.make_evaluators(name, task, context)
  if not built:
    raise ConfigError(f'the task {name} has no evaluation of its own')
  return measures.Measure(run.params, built, task.report_rows)


def _find_lacking(
  run: Any,
  name: str,
  task: tasks.Task,
  source: sources.Source,
  options: Options,
) -> set[tuple[str, ...]]:
  """The sets of arrays, of which a task needs one, that no record has.

  Raises:
    ConfigError: if no record has any of them, or a field is of another kind.
  """
  keep = lambda keys: tuple(key for key in keys if run.preprocessor.find(key))
  choices = [keep(keys) for keys in task.required_keys()]
  wanted = {key for keys in choices for key in keys}
  read = {f.name: f for f in map(run.preprocessor.find, sorted(wanted))}
  present = {
    name: feature
    for name, feature in read.items()
    if feature.field_name in source.kinds
  }
  feeds.check_fields(present, source)
  found = checks.Checks(
    run.preprocessor, {name: keep(task.batch_keys())}, {}, {name: choices}
  )
  where = f'{options.data}, {options.split!r}'
  lacking = found.find_lacking(where, source)
  if len(lacking) == len(choices):
    reason = next(iter(lacking.values()))
    raise ConfigError(f'{reason}; use a data set that has it')
  return {keys for _, keys in lacking}


def iterate_table(
  results: Results, split: str
) -> Iterator[tuple[str, str, float, float | None, float | None]]:
  """Yields (split, label, value, chance, blind) for the table."""
  for row in results.rows:
    if row.metric in results.values:
      yield (
        split,
        row.label,
        results.values[row.metric],
        results.values.get(row.baseline),
        None,
      )
