"""Functions of this process, as coroutines and threads."""
