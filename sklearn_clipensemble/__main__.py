"""``python -m sklearn_clipensemble``: the command ``clipensemble``."""

import sys

from sklearn_clipensemble._command_line import main

if __name__ == "__main__":
    sys.exit(main())
