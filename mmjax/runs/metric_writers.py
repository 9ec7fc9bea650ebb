"""Writers of a run's metrics: JSON lines, TensorBoard, Weights & Biases."""

import contextlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

# Seconds until TensorBoard can see what was written.
FLUSH_EVERY = 10.0


class MetricWriter(Protocol):
  """Writes the metrics of one step."""

  def write(self, step: int, values: Mapping[str, float]) -> None: ...

  def close(self) -> None: ...


def write_json(path: Path, value: Any) -> None:
  """Replaces a file atomically: no reader sees half of it."""
  replace(path, json.dumps(value, indent=2, sort_keys=True) + '\n')


def replace(path: Path, text: str) -> None:
  """Replaces a file by another that is whole on the disk, or raises.

  Raises:
    OSError: if it can't be written; the file is then as it was.
  """
  part = path.with_name(path.name + '.part')
  try:
    with part.open('w') as file:
      file.write(text)
      file.flush()
      os.fsync(file.fileno())  # Else a crash may leave the new name empty.
    os.replace(part, path)
  except OSError:
    part.unlink(missing_ok=True)
    raise


def read_json_lines(path: Path) -> list[dict[str, Any]]:
  """The whole lines of a metrics.jsonl; a killed process may leave a half."""
  out = []
  for line in path.read_text().splitlines() if path.exists() else ():
    with contextlib.suppress(json.JSONDecodeError):
      out.append(json.loads(line))
  return out


class JsonLines:
  """metrics.jsonl: one line per step, beginning with its number.

  Args:
    path: the file.
    restored: step that the run resumes from. Lines of an earlier process
      about later steps are dropped, so that no step appears twice.

  Attributes:
    last: the last line, empty in a fresh run.
  """

  def __init__(self, path: Path, restored: int = 0):
    kept = [r for r in read_json_lines(path) if r['step'] <= restored]
    self.last: dict[str, Any] = kept[-1] if kept else {}
    lines = [json.dumps(record) + '\n' for record in kept]
    replace(path, ''.join(lines))
    self._file = path.open('r+')
    self._begins = sum(map(len, lines[:-1]))  # Where the last line begins.

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Appends a line, or adds to the last one if it is of the same step."""
    if self.last.get('step') == step:
      self._file.seek(self._begins)
      self._file.truncate()
    else:
      self._begins = self._file.seek(0, os.SEEK_END)
      self.last = {'step': step}
    self.last |= values
    self._file.write(json.dumps(self.last) + '\n')
    self._file.flush()

  def close(self) -> None:
    self._file.close()


class TensorBoard:
  """Event files in the run's folder; steps after `restored` are overwritten.

  Written without `SummaryWriter`, whose thread ends at the first error, after
  which every write waits for ever.
  """

  def __init__(self, folder: Path, restored: int = 0):
    from tensorboardX import event_file_writer, summary
    from tensorboardX.proto import event_pb2

    folder.mkdir(parents=True, exist_ok=True)
    self._file = event_file_writer.EventsWriter(str(folder / 'events'))
    self._event, self._scalar = event_pb2.Event, summary.scalar
    if restored:
      start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
      self._add(restored + 1, session_log=start)
    self._flush()

  def write(self, step: int, values: Mapping[str, float]) -> None:
    for name, value in values.items():
      self._add(step, summary=self._scalar(name, value))
    if time.monotonic() > self._flushed + FLUSH_EVERY:
      self._flush()

  def close(self) -> None:
    self._file.close()

  def _add(self, step: int, **content: Any) -> None:
    event = self._event(step=step, wall_time=time.time(), **content)
    self._file.write_event(event)

  def _flush(self) -> None:
    self._file.flush()
    self._flushed = time.monotonic()


class WeightsAndBiases:
  """A run of the project `train.wandb_project`, named after the folder.

  Needs the package `wandb`, without which `settings.validate` refuses the
  config.
  """

  def __init__(self, project: str, folder: Path, config: Mapping[str, Any]):
    import wandb

    identity = folder / 'wandb_id'
    if not identity.exists():
      identity.write_text(wandb.util.generate_id())
    self._run = wandb.init(
      project=project,
      name=folder.name,
      id=identity.read_text(),
      resume='allow',
      dir=str(folder),
      config=dict(config),
    )

  def write(self, step: int, values: Mapping[str, float]) -> None:
    self._run.log(dict(values), step=step)

  def close(self) -> None:
    self._run.finish()


class Writers:
  """Several writers as one; those of other hosts than the first are none."""

  def __init__(self, writers: Iterable[MetricWriter]):
    self._writers = tuple(writers)

  def write(self, step: int, values: Mapping[str, float]) -> None:
    for writer in self._writers:
      writer.write(step, values)

  def close(self) -> None:
    for writer in self._writers:
      writer.close()
