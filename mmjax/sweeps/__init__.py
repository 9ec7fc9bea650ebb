"""Sweeps: many runs of one config, searched by Optuna, by any workers."""
