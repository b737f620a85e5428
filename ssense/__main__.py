"""Sweeps, their evaluation and what else is done with them, by one command.

python -m ssense COMMAND
"""

from __future__ import annotations

import sys

# The current folder may have an `analysis` of its own, which must not be taken for that of ssense.
sys.path.append(sys.path.pop(0))

from ssense.cli.console import main

if __name__ == "__main__":
    main()
