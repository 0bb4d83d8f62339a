"""The worker: a process that owns lanes and runs functions."""
