"""Lines of the table of settings (``config.py``), by what they are about."""
