"""Configs: their fields, defaults, files, and overrides by flags."""
