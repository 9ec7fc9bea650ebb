"""One side of a row of `benchmarks.run`, in a process of its own.

Prints what it computes as a line of JSON once it is warm; then does its work
once for each line that it reads, and prints the seconds and the largest memory
of the process so far, in bytes.
"""

import json
import resource
import sys
import time

from benchmarks import rows


def main(row: str, side: str, tiny: bool) -> None:
  """Runs the side until the input ends."""
  # Libraries print to stdout; the answers go to the stream that was there.
  answers, sys.stdout = sys.stdout, sys.stderr
  if not tiny and rows.ROWS[row].suites == ('gpu',):
    import jax

    if jax.default_backend() == 'cpu':
      sys.exit(f'{row} is measured on a GPU, and JAX finds none; add --tiny')
  work = rows.ROWS[row].sides[side](tiny)
  for _ in range(work.warm):
    work.run()
  print(json.dumps(work.info), file=answers, flush=True)
  for _ in sys.stdin:
    start = time.perf_counter()
    work.run()
    seconds = time.perf_counter() - start
    turn = {'seconds': seconds, 'memory': _find_memory()}
    print(json.dumps(turn), file=answers, flush=True)


def _find_memory() -> int:
  """Largest resident memory of this process, or of one that it ran."""
  return max(
    resource.getrusage(who).ru_maxrss * 1024
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
  )


if __name__ == '__main__':
  main(sys.argv[1], sys.argv[2], '--tiny' in sys.argv)
