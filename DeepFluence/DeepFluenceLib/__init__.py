"""The panel of DeepFluence."""

import importlib.util
import sys
from pathlib import Path

if importlib.util.find_spec("deeprt") is None:  # a source checkout, opened without a build
    sys.path.append(str(Path(__file__).parents[2] / "src"))
