"""Config of the toy run in `killed.py`."""


def get_config():
  return {
    'train': {
      'steps': 40,
      'batch_size': 8,
      'log_every': 1,
      'checkpoint_every': 1,
      'ema_decay': 0.9,
      'tensorboard': False,
    },
    'model': {'width': 64},
  }
