"""``python -m millstream.history``: see ``process.py``."""

from __future__ import annotations

import sys

from millstream.history.process import main

if __name__ == "__main__":
    sys.exit(main())
