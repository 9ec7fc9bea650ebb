"""Config of `several.py`."""


def get_config():
  return {
    'train': {
      'steps': 12,
      'batch_size': 16,
      'log_every': 1,
      'checkpoint_every': 4,
      'ema_decay': 0.9,
      'tensorboard': False,
    },
    'model': {'width': 64},
    'optimizer': {'schedule': 'constant'},
  }
