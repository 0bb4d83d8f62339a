"""``python -m penstock.history``: see ``process.py``."""

from __future__ import annotations

import sys

from penstock.history.process import main

if __name__ == "__main__":
    sys.exit(main())
