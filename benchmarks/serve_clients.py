"""Measures how many tokens a second `mmjax serve` writes for its clients.

Starts a server, asks it once unmeasured, so that its programs are compiled, and
then by so many clients at once. Prints tokens a second by the clock, and by the
server's CPU time where Linux' /proc has it, which other programs change less.

  python benchmarks/serve_clients.py --model=SmolLM2-135M-Instruct.Q4_1.gguf
"""

import concurrent.futures
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import urllib.request

from absl import app, flags

_MODEL = flags.DEFINE_string('model', None, 'model to serve', required=True)
_CLIENTS = flags.DEFINE_list('clients', ['1', '8'], 'numbers of clients')
_TOKENS = flags.DEFINE_integer(
  'tokens', 48, 'largest number of an answer', lower_bound=1
)
_LENGTH = flags.DEFINE_integer(
  'max_length', 1024, "as mmjax serve's", lower_bound=1
)

_QUESTIONS = (
  'Tell me about the sea.',
  'Write a poem about a cat.',
  'Why is the sky blue?',
  'List five fruits and describe each.',
  'What is a computer?',
  'Explain rain to a child.',
  'Describe a forest.',
  'What is bread made of?',
)


def main(argv: list[str]) -> None:
  del argv
  process = subprocess.Popen(
    [
      *(sys.executable, '-m', 'mmjax.cli.main', 'serve', _MODEL.value),
      *('--port=0', '--name=model', f'--max_length={_LENGTH.value}'),
    ],
    stdout=subprocess.PIPE,
    text=True,
  )
  try:
    process.stdout.readline()  # The model's name.
    address = process.stdout.readline().split()[0]
    for clients in map(int, _CLIENTS.value):
      _ask_at_once(address, clients)
      start, cpu = time.monotonic(), _read_cpu_seconds(process.pid)
      tokens = _ask_at_once(address, clients)
      seconds = time.monotonic() - start
      cpu = _read_cpu_seconds(process.pid) - cpu
      print(
        f'{clients} clients: {tokens} tokens, {tokens / seconds:.1f} a second, '
        f'{tokens / cpu if cpu else float("nan"):.1f} a second of CPU time',
        flush=True,
      )
  finally:
    process.send_signal(signal.SIGTERM)
    process.wait()


def _ask_at_once(address: str, clients: int) -> int:
  """Number of tokens that all clients together get."""
  with concurrent.futures.ThreadPoolExecutor(clients) as pool:
    ask = lambda number: _ask(address, _QUESTIONS[number % len(_QUESTIONS)])
    return sum(pool.map(ask, range(clients)))


def _ask(address: str, question: str) -> int:
  """Number of tokens of the answer to a question."""
  body = {
    'model': 'model',
    'messages': [{'role': 'user', 'content': question}],
    'max_tokens': _TOKENS.value,
    'temperature': 0,
  }
  request = urllib.request.Request(
    f'{address}/chat/completions',
    json.dumps(body).encode(),
    {'Content-Type': 'application/json'},
  )
  with urllib.request.urlopen(request) as response:
    return json.load(response)['usage']['completion_tokens']


def _read_cpu_seconds(pid: int) -> float:
  """CPU time of a process; 0 where it is not known."""
  try:
    stat = pathlib.Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2]
  except OSError:
    return 0.0
  user, system = stat.split()[11:13]
  return (int(user) + int(system)) / os.sysconf('SC_CLK_TCK')


if __name__ == '__main__':
  app.run(main)
