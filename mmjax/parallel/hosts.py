"""Many hosts as one: finding each other, and noticing that one is gone."""

import atexit
import contextlib
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator

import jax

# A host that says nothing for so many seconds is taken for dead.
HEARTBEAT = 30
# So long do hosts wait for each other, at the start and at the end.
START, END = 300, 60


def connect(
  coordinator: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
) -> None:
  """Joins the processes that were started together; before JAX is used.

  On SLURM (under srun), Open MPI, Cloud TPU VMs and GKE, JAX finds the others
  by itself. Elsewhere every process is told the same `coordinator` and
  `num_processes` and its own `process_id`. A process that is alone stays alone,
  and what has joined before is left as it is.

  Args:
    coordinator: 'HOST:PORT' of process 0, with a port that is free there.
    num_processes: of all hosts together; 1 keeps a process alone wherever it
      runs.
    process_id: 0 to num_processes - 1.

  Raises:
    ValueError: if only some of the three are given, or they don't fit.
    RuntimeError: if the others don't answer.
  """
  given = {
    '--coordinator': coordinator,
    '--num_processes': num_processes,
    '--process_id': process_id,
  }
  missing = [name for name, value in given.items() if value is None]
  alone = num_processes == 1 and len(missing) == 2
  if alone or jax.distributed.is_initialized():
    return
  if missing and len(missing) < 3:
    raise ValueError(
      f'{", ".join(missing)} missing: several processes need all of '
      f'{", ".join(given)}, or none where the cluster tells them'
    )
  if not missing and not 0 <= process_id < num_processes:
    raise ValueError(
      f'--process_id={process_id} is none of the --num_processes='
      f'{num_processes}; they are numbered from 0'
    )
  if not missing and ':' not in coordinator:
    raise ValueError(
      f'--coordinator={coordinator} has no port; write HOST:PORT'
    )
  try:
    jax.distributed.initialize(
      coordinator,
      num_processes,
      process_id,
      initialization_timeout=START,
      heartbeat_timeout_seconds=HEARTBEAT,
      shutdown_timeout_seconds=END,
    )
  except ValueError as error:
    # JAX's way to say that no cluster that it knows is here.
    if not (missing and 'coordinator_address' in str(error)):
      raise
    return
  if jax.process_count() > 1:
    _leave_last_words()


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
  """Ends the process at once where a collective fails: another host is gone.

  An orderly way out would wait for the one that is gone.
  """
  try:
    yield
  except jax.errors.JaxRuntimeError:
    if jax.process_count() == 1:
      raise
    traceback.print_exc()
    print(_last_words(), file=sys.stderr, flush=True)
    os._exit(1)


def _last_words() -> str:
  return (
    f'error: process {jax.process_index()} of {jax.process_count()} ended '
    'because it was killed, or because another process died or was silent for '
    f'{HEARTBEAT} seconds; the first error is in the log of that one. The same '
    'command on all hosts goes on from the last checkpoint'
  )


def _leave_last_words() -> None:
  """Has a child tell why, should this process end without a chance to.

  Where a host is lost, JAX aborts the others from C++, with a stack trace.
  """
  child = (
    'import sys\n'
    'if not sys.stdin.read(): print(sys.argv[1], file=sys.stderr, flush=True)'
  )
  process = subprocess.Popen(
    [sys.executable, '-ES', '-c', child, _last_words()],
    stdin=subprocess.PIPE,
    # Signals to the terminal's processes are not for it.
    start_new_session=True,
  )
  owner = os.getpid()

  def end_well():
    if os.getpid() == owner:
      process.communicate(b'.')

  atexit.register(end_well)
