"""Trained models, runs and published ones, on files and on data sets."""
