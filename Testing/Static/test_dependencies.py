"""The packages that the extension offers to install are those of the Python package."""

import ast
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_extension_needs_the_packages_that_the_python_package_needs():
    source = ast.parse((ROOT / "src/deeprt_slicer/dependencies.py").read_text(encoding="utf-8"))
    values = {n.targets[0].id: n.value for n in source.body if isinstance(n, ast.Assign)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert list(ast.literal_eval(values["REQUIREMENTS"])) == project["dependencies"]
