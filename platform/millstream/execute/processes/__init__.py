"""``--executors N``: functions in child processes of the worker."""
