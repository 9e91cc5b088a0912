import argparse
import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from deeprt.cli import _parser

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
MAX_FILE_LINES, MAX_FUNCTION_LINES = 350, 60  # the design's "wants to be two"
TEXT = {".py", ".md", ".toml", ".json", ".css", ".txt", ".sh", ".yml", ".cfg", "", ".cmake", ".ui"}
MACHINE_PATH = re.compile(r"(?<![\w.])(/home/|/root/|/Users/|/tmp/|/work/|/private/|/opt/|[A-Z]:\\\\)[\w.]")


def tracked_files():
    """Files that git tracks; those of the tree where git is not there."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("git does not list the project's files here")
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def is_import_linter_there():
    return subprocess.run([sys.executable, "-c", "import importlinter"], capture_output=True).returncode == 0


@pytest.mark.skipif(not is_import_linter_there(), reason="import-linter is not installed")
def test_modules_import_in_one_direction():
    code = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT / "src")))
def test_modules_and_functions_are_short(path):
    text = path.read_text(encoding="utf-8")
    functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
    long = {f.name: f.end_lineno - f.lineno + 1 for f in functions if f.end_lineno - f.lineno >= MAX_FUNCTION_LINES}
    assert not long
    assert len(text.splitlines()) <= MAX_FILE_LINES


def test_no_text_names_a_path_of_one_machine():
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in tracked_files()
        if path.suffix in TEXT and path != Path(__file__)
        for line in path.read_text(encoding="utf-8").splitlines()
        if MACHINE_PATH.search(line)
    ]
    assert found == []


def test_no_patient_data_is_tracked():
    assert [p.name for p in tracked_files() if p.suffix in {".dcm", ".nrrd", ".nii", ".npz", ".gz", ".mha"}] == []


def documented(text):
    """Long options in a text, by command."""
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))


def options_of(parser):
    """Long options of a parser and of the commands below it."""
    for action in parser._actions:
        yield from (o for o in action.option_strings if o.startswith("--"))
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from options_of(below)


@pytest.fixture
def known_options():
    """Long options of all commands."""
    return set(options_of(_parser()))


@pytest.mark.skipif(not (ROOT / "README.md").is_file(), reason="there is no README yet")
def test_the_readme_names_options_that_exist(known_options):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "--prescription" in documented(text)
    assert documented(text) - {"--strict"} <= known_options  # mypy's


@pytest.mark.skipif(not (ROOT / "README.md").is_file(), reason="there is no README yet")
def test_the_readme_names_files_and_make_targets_that_exist():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert [link for link in links if not (ROOT / link).exists()] == []
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([\w-]+)", text, flags=re.MULTILINE)) <= targets


def test_every_option_of_the_command_line_is_in_the_readme(known_options):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert known_options - documented(text) - {"--help", "--version", "--out"} == set()


def test_settings_that_a_document_shows_in_python_can_be_imported():
    """Python examples of the README import names that exist."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        imports = [node for node in ast.parse(block).body if isinstance(node, (ast.Import, ast.ImportFrom))]
        exec(compile(ast.Module(imports, []), "README.md", "exec"), {})
