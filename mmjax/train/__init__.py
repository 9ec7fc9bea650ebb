"""The loop and its parts: state, optimizer, step, checkpoints, writers."""
