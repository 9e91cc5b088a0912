"""What is missing in Slicer's Python is offered, once, and nothing else is changed."""

import os
import subprocess
import sys
import types
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

import pytest
from packaging.requirements import Requirement

from deeprt.errors import InputError


class Packages:
    """Packages of a Slicer that has all but those that a test takes away, and what pip was asked for."""

    def __init__(self, dependencies, host, monkeypatch):
        self.of, self.host, self.patch = dependencies, host, monkeypatch
        self.versions = {Requirement(r).name: _least(r) for r in dependencies.REQUIREMENTS}
        self.asked, self.constraints = [], []

    def version(self, name):
        if name not in self.versions:
            raise PackageNotFoundError(name)
        return self.versions[name]

    def install(self, requirements):
        self.asked += requirements
        self.constraints.append(Path(url2pathname(urlparse(os.environ["PIP_CONSTRAINT"]).path)).read_text())
        self.versions |= {Requirement(r).name: _least(r) for r in requirements}

    def install_torch(self, askConfirmation, torchVersionRequirement):
        assert not askConfirmation  # which was asked for already
        self.install([f"torch{torchVersionRequirement}"])


def _least(requirement):
    """The oldest version that meets a requirement."""
    return next(s.version for s in Requirement(requirement).specifier if s.operator == ">=")


@pytest.fixture
def packages(slicer_host, monkeypatch):
    import slicer

    from deeprt_slicer import dependencies

    these = Packages(dependencies, slicer_host, monkeypatch)
    extension = types.ModuleType("PyTorchUtils")
    extension.PyTorchUtilsLogic = lambda: types.SimpleNamespace(installTorch=these.install_torch)
    monkeypatch.setitem(sys.modules, "PyTorchUtils", extension)
    monkeypatch.setattr(dependencies, "version", these.version)
    monkeypatch.setattr(slicer.util, "pip_install", these.install)
    monkeypatch.delenv("PIP_CONSTRAINT", raising=False)
    return these


def test_nothing_is_asked_for_where_nothing_is_missing(packages):
    assert packages.of.missing() == () and packages.of.offer_installation()
    assert packages.host.dialogs == () and packages.asked == []


def test_a_version_out_of_range_counts_as_missing(packages):
    packages.versions["pydicom"] = "2.4.4"
    packages.versions["tomli-w"] = "1.0rc1"
    assert packages.of.missing() == ("pydicom>=3.0,<4", "tomli-w>=1.0,<2")


def test_what_is_missing_is_asked_for_once_and_torch_comes_from_its_extension(packages):
    for name in ("torch", "numba", "cattrs"):
        del packages.versions[name]
    packages.host.answer(True)
    assert packages.of.offer_installation()
    assert len(packages.host.dialogs) == 1 and "torch, numba, cattrs" in packages.host.dialogs[0].text
    torch, *others = map(Requirement, packages.asked)
    assert torch == Requirement("torch>=2.2,<3")
    assert others == [Requirement("numba>=0.60,<1"), Requirement("cattrs>=23.2")]


def test_pip_is_told_to_keep_every_package_that_is_not_asked_for(packages):
    import numpy

    del packages.versions["numba"], packages.versions["torch"]
    packages.host.answer(True)
    packages.of.offer_installation()
    for constraints in packages.constraints:
        lines = constraints.splitlines()
        assert f"numpy=={numpy.__version__}" in lines
        assert not [line for line in lines if line.startswith(("numba==", "torch=="))]
    assert "PIP_CONSTRAINT" not in os.environ


def test_a_user_who_declines_is_left_alone(packages):
    del packages.versions["numba"]
    packages.host.answer(False)
    assert not packages.of.offer_installation()
    assert packages.asked == []


def test_nothing_is_installed_while_slicer_tests_itself(packages):
    import slicer

    del packages.versions["numba"]
    packages.patch.setattr(type(slicer.app._qt), "_is_testing", True)
    assert not packages.of.offer_installation()
    assert packages.asked == [] and packages.host.dialogs == ()


def test_without_the_pytorch_extension_the_user_is_told_how_to_get_it(packages):
    del packages.versions["torch"]
    packages.patch.setitem(sys.modules, "PyTorchUtils", None)
    with pytest.raises(InputError, match="install the extension PyTorch in the Extensions Manager"):
        packages.of.offer_installation()
    assert packages.host.dialogs == ()


def test_a_failed_installation_is_one_sentence_and_leaves_pip_as_it_was(packages):
    import slicer

    def fail(requirements):
        raise subprocess.CalledProcessError(1, "pip")

    packages.patch.setattr(slicer.util, "pip_install", fail)
    packages.patch.setenv("PIP_CONSTRAINT", "mine.txt")
    del packages.versions["numba"]
    packages.host.answer(True)
    with pytest.raises(InputError, match="Installing numba failed"):
        packages.of.offer_installation()
    assert os.environ["PIP_CONSTRAINT"] == "mine.txt"


def test_a_package_that_was_replaced_needs_a_restart(packages):
    packages.versions["pillow"] = "9.0"
    packages.host.answer(True)
    with pytest.raises(InputError, match="Restart Slicer"):
        packages.of.offer_installation()


def test_the_parts_that_are_needed_before_import_no_package_that_may_be_missing(slicer_host):
    names = {Requirement(r).name.replace("-", "_").lower() for r in _requirements()} | {"skimage", "pil", "cattr"}
    code = (
        "import sys, types\n"
        "for n in ('slicer', 'slicer.i18n', 'qt'): sys.modules[n] = types.ModuleType(n)\n"
        "sys.modules['slicer.i18n'].tr = str\n"
        "sys.modules['qt'].QLabel = object\n"
        "from deeprt_slicer import dependencies, message_line\n"
        "print(*sys.modules)"
    )
    source = Path(__file__).parents[2] / "src"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": str(source)}
    )
    assert not names & {m.lower() for m in done.stdout.split()}


def _requirements():
    from deeprt_slicer.dependencies import REQUIREMENTS

    return REQUIREMENTS
