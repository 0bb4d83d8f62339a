"""``python -m millstream``: the command line, see ``cli``."""

from __future__ import annotations

import sys

from millstream.cli import main

if __name__ == "__main__":
    sys.exit(main())
