"""``python -m deeprt`` is the command line."""

import sys

from deeprt.cli import main

sys.exit(main())
