"""The training loop: state, step, optimizer, schedule, launching."""
