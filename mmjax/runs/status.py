"""How far a run is, from its folder alone."""

from pathlib import Path

from mmjax.config import settings
from mmjax.runs import checkpoints, metric_writers, owner

# Folder of the blind baseline, inside that of a run with questions.
BLIND = 'blind'


def describe(folder: Path) -> str | None:
  """How far an unfinished run is, and whether it is running.

  Args:
    folder: the run's.

  Returns:
    Such as 'step 30 of 100, stopped; saved up to step 20'; None if the run is
    finished, or the folder is not a run's.

  Raises:
    ConfigError: if a file of the run is damaged.
  """
  if not (folder / 'config.json').is_file():
    inner = folder / BLIND
    if not (inner / 'config.json').is_file():
      return None
    # The model itself starts when its baseline is finished.
    return f'blind baseline: {describe(inner) or "finished"}'
  train = settings.read_json(folder / 'config.json').get('train') or {}
  results, total = {}, train.get('steps')
  if (folder / 'results.json').is_file():
    results = settings.read_json(folder / 'results.json')
  if results.get('step') == total:
    return None
  saved = checkpoints.steps_in(folder)
  logged = metric_writers.read_json_lines(folder / 'metrics.jsonl')
  step = max([0, *saved, *(line['step'] for line in logged[-1:])])
  state = owner.describe_running(folder) or 'stopped'
  kept = f'saved up to step {saved[-1]}' if saved else 'nothing saved yet'
  return f'step {step} of {total}, {state}; {kept}'
