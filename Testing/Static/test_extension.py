"""The extension's CMake lists, doors and icons against the tree; no Slicer is needed."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
MODULES = ("DeepBOO", "DeepFluence")
PACKAGES = sorted(p.parent for p in (ROOT / "src").glob("*/__init__.py"))
OF_SLICER = {"slicer", "vtk", "qt", "ctk"}
MAX_DOOR_LINES = 99


def cmake_settings(folder):
    """Lists that a CMakeLists.txt sets, by name; the module's name is filled in."""
    text = re.sub(r"#.*", "", (folder / "CMakeLists.txt").read_text(encoding="utf-8"))
    text = text.replace("${MODULE_NAME}", folder.name)
    return {name: values.replace('"', "").split() for name, values in re.findall(r"set\((\w+)\s+([^()]*)\)", text)}


def added_folders(folder):
    """Subdirectories that a CMakeLists.txt adds."""
    text = (folder / "CMakeLists.txt").read_text(encoding="utf-8")
    return [folder / name for name in re.findall(r"^\s*add_subdirectory\(([\w/]+)\)", text, flags=re.MULTILINE)]


def files_in(folder, pattern="*"):
    """Files below a folder, as a module's list names them; what Python and systems leave there is not one."""
    found = (p.relative_to(folder) for p in folder.rglob(pattern) if p.is_file())
    return {p.as_posix() for p in found if "__pycache__" not in p.parts and not p.name.startswith(".")}


def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("folder", [ROOT, ROOT / "src"], ids=["extension", "src"])
def test_every_folder_that_is_added_has_a_list(folder):
    assert added_folders(folder)
    assert [f for f in added_folders(folder) if not (f / "CMakeLists.txt").is_file()] == []


def test_all_modules_and_packages_are_in_the_extension():
    assert {f.name for f in added_folders(ROOT)} >= {"src", *MODULES}
    assert {f.name for f in added_folders(ROOT / "src")} == {p.name for p in PACKAGES if p.name != "deeprt_web"}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda p: p.name)
def test_a_package_has_no_file_that_the_extension_would_leave_out(package):
    others = {f for f in files_in(package) if not f.endswith(".py")}
    assert {f for f in others if not f.startswith("data/")} <= {"CMakeLists.txt", "py.typed"}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_lists_its_files_and_no_others(module):
    settings = cmake_settings(ROOT / module)
    assert sorted(settings["MODULE_PYTHON_SCRIPTS"]) == sorted(files_in(ROOT / module, "*.py"))
    resources = {f for f in files_in(ROOT / module) if f.startswith("Resources/")}
    assert sorted(settings["MODULE_PYTHON_RESOURCES"]) == sorted(resources)


def test_icon_and_screenshots_of_the_extension_exist():
    settings = cmake_settings(ROOT)
    urls = settings["EXTENSION_ICONURL"] + settings["EXTENSION_SCREENSHOTURLS"]
    files = [ROOT / url.split("/raw/main/")[1] for url in urls]
    assert len(files) >= 2
    assert [f for f in files if not f.is_file()] == []


def test_the_extension_says_what_it_is_and_what_it_needs():
    settings = cmake_settings(ROOT)
    assert settings["EXTENSION_DEPENDS"] == ["SlicerRT", "PyTorch"]
    assert "For research, not for clinical use." in " ".join(settings["EXTENSION_DESCRIPTION"])
    assert settings["EXTENSION_CONTRIBUTORS"]


STAND_IN = """
set(Slicer_USE_FILE ${CMAKE_CURRENT_LIST_DIR}/use.cmake)
set(Slicer_EXTENSION_GENERATE_CONFIG ${CMAKE_CURRENT_LIST_DIR}/nothing.cmake)
set(Slicer_EXTENSION_CPACK ${CMAKE_CURRENT_LIST_DIR}/nothing.cmake)
"""
MACROS = """
set(BUILD_TESTING ON)
macro(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(GIVEN "WITH_GENERIC_TESTS;WITH_SUBDIR" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  foreach(file ${GIVEN_SCRIPTS} ${GIVEN_RESOURCES})
    file(APPEND ${CMAKE_BINARY_DIR}/files.txt "${GIVEN_NAME} ${GIVEN_WITH_SUBDIR} ${file}\\n")
  endforeach()
endmacro()
macro(slicer_add_python_unittest)
  file(APPEND ${CMAKE_BINARY_DIR}/tests.txt "${ARGN}\\n")
endmacro()
"""


@pytest.mark.skipif(not (shutil.which("cmake") and shutil.which("c++")), reason="CMake and a compiler are not there")
def test_cmake_configures_the_extension_with_all_files_and_tests(tmp_path):
    """Slicer's macros are stand-ins that write down what they are given."""
    for name, text in {"SlicerConfig": STAND_IN, "use": MACROS, "nothing": ""}.items():
        (tmp_path / f"{name}.cmake").write_text(text, encoding="utf-8")
    version = 'set(PACKAGE_VERSION "5.10.0")\nset(PACKAGE_VERSION_COMPATIBLE TRUE)\n'
    (tmp_path / "SlicerConfigVersion.cmake").write_text(version, encoding="utf-8")
    command = ["cmake", "-S", ROOT, "-B", tmp_path / "build", f"-DSlicer_DIR={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    given = set((tmp_path / "build/files.txt").read_text(encoding="utf-8").splitlines())
    for package in added_folders(ROOT / "src"):
        expected = {f for f in files_in(package) if f != "CMakeLists.txt"}
        assert {line.split(" ", 2)[2] for line in given if line.startswith(f"{package.name} TRUE ")} == expected
    assert {f"{m} FALSE {m}.py" for m in MODULES} <= given
    tests = (tmp_path / "build/tests.txt").read_text(encoding="utf-8")
    assert [m for m in MODULES if f"{m}.py" not in tests] == []


@pytest.mark.parametrize("module", MODULES)
def test_the_door_is_short_and_the_only_script_beside_the_panel(module):
    assert [p.name for p in (ROOT / module).glob("*.py")] == [f"{module}.py"]
    assert len((ROOT / module / f"{module}.py").read_text(encoding="utf-8").splitlines()) <= MAX_DOOR_LINES


@pytest.mark.parametrize("module", MODULES)
def test_the_door_imports_nothing_but_slicer_and_runs_nothing_when_it_is_read(module):
    tree = parsed(ROOT / module / f"{module}.py")
    imported = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module)
    assert {name.split(".")[0] for name in imported} <= OF_SLICER | sys.stdlib_module_names
    is_docstring = isinstance(tree.body[0], ast.Expr)
    rest = tree.body[1:] if is_docstring else tree.body
    kinds = (ast.Import, ast.ImportFrom, ast.ClassDef, ast.FunctionDef)
    assert [ast.unparse(node) for node in rest if not isinstance(node, kinds)] == []


@pytest.mark.parametrize("module", MODULES)
def test_the_door_has_module_widget_and_test(module):
    text = (ROOT / module / f"{module}.py").read_text(encoding="utf-8")
    classes = [node.name for node in ast.parse(text).body if isinstance(node, ast.ClassDef)]
    assert classes == [module, f"{module}Widget", f"{module}Test"]
    assert "For research, not for clinical use." in text
    assert re.search(r"Med\. Phys\. \d+, \d+ \(20\d\d\)|https://doi\.org/10\.", text)


@pytest.mark.parametrize("module", MODULES)
def test_names_of_resources_begin_with_the_module(module):
    """Slicer puts the resources of all modules into one folder."""
    names = [Path(f).name for f in files_in(ROOT / module / "Resources")]
    assert names
    assert [n for n in names if not n.startswith(module)] == []


@pytest.mark.parametrize("icon", ["Resources/DeepRT.png", *(f"{m}/Resources/Icons/{m}.png" for m in MODULES)])
def test_icons_have_the_size_that_the_extension_index_asks_for(icon):
    with Image.open(ROOT / icon) as image:
        assert image.size == (128, 128)
        assert image.mode == "RGBA"
