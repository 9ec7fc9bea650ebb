"""Exceptions whose message is all that a user needs; the rest are bugs."""


class ConfigError(ValueError):
  """A refused value of the user's: of a config, a flag or a file.

  Commands print its message without a traceback; training ends with exit code
  2. Any exception that is neither this nor a `RunError` is a bug, of a user's
  module or of mmjax, and keeps its traceback.
  """


class RunError(RuntimeError):
  """A run or command failed for a reason that its message explains.

  Commands print its message without a traceback and end with exit code 1.
  """
