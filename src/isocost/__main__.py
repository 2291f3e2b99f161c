"""``python -m isocost``: the command line where the script ``isocost`` is not on the path."""

import sys

from isocost.cli import main

if __name__ == "__main__":
    sys.exit(main())
