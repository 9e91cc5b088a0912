"""The packages that DeepRT needs in Slicer's Python, and their installation when the user agrees.

The extension is not installed by pip, so that the requirements stand here again; a test compares them with those of
``pyproject.toml``.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from typing import Any

import slicer
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from slicer.i18n import tr as _

from deeprt.errors import InputError

REQUIREMENTS = (
    "numpy>=1.26,<3",
    "scipy>=1.11,<2",
    "torch>=2.2,<3",
    "numba>=0.60,<1",
    "pydicom>=3.0,<4",
    "SimpleITK>=2.3,<3",
    "scikit-image>=0.22,<1",
    "matplotlib>=3.8,<4",
    "tqdm>=4.66,<5",
    "cattrs>=23.2",
    "platformdirs>=4.0,<5",
    "psutil>=5.9; sys_platform == 'win32'",
    "tomli-w>=1.0,<2",
    "safetensors>=0.4,<1",
    "pillow>=10",
)


def missing() -> tuple[str, ...]:
    """Requirements that Slicer's Python does not meet, such as ``numba>=0.60,<1``; nothing is imported."""
    return tuple(text for text in REQUIREMENTS if not _is_met(Requirement(text)))


def offer_installation() -> bool:
    """Ask once for what is missing and install it; nothing is asked for or installed while Slicer tests itself.

    Packages that Slicer has stay as they are, unless DeepRT needs another version of them.

    Returns
    -------
    Whether everything is there now

    Raises
    ------
    InputError
        If the installation failed, the PyTorch extension is not there, or Slicer has to be restarted.
    """
    needed = [Requirement(text) for text in missing()]
    if not needed:
        return True
    if slicer.app.testingEnabled():
        return False
    torch = next((r for r in needed if r.name == "torch"), None)
    others = [r for r in needed if r is not torch]
    torch_logic: Any = None if torch is None else _torch_logic()  # before anything is asked
    names = ", ".join(r.name for r in needed)
    question = _(
        "DeepRT needs Python packages that Slicer does not have: {names}. Download and install them now? "
        "It takes a few minutes."
    ).format(names=names)
    if not slicer.util.confirmOkCancelDisplay(question, _("DeepRT: install packages")):
        return False
    replaced = [r.name for r in needed if _installed(r) is not None]
    with slicer.util.WaitCursor(), _nothing_else_changes([r.name for r in needed]):
        try:
            if torch is not None:
                torch_logic.installTorch(askConfirmation=False, torchVersionRequirement=str(torch.specifier))
            if others:
                slicer.util.pip_install([f"{r.name}{r.specifier}" for r in others])
        except (subprocess.CalledProcessError, RuntimeError, ImportError) as error:
            problem = _("Installing {names} failed; the Python console has what pip said.").format(names=names)
            raise InputError(problem) from error
    if replaced:
        problem = _("Packages were replaced: {names}. Restart Slicer to go on.").format(names=", ".join(replaced))
        raise InputError(problem)
    return not missing()


def _is_met(requirement: Requirement) -> bool:
    if requirement.marker is not None and not requirement.marker.evaluate():
        return True
    installed = _installed(requirement)
    return installed is not None and requirement.specifier.contains(installed, prereleases=True)


def _installed(requirement: Requirement) -> str | None:
    try:
        return version(requirement.name)
    except PackageNotFoundError:
        return None


def _torch_logic() -> Any:
    """The PyTorch extension, which knows the build of PyTorch that suits the computer."""
    try:
        import PyTorchUtils
    except ImportError as error:
        raise InputError(
            _("DeepRT needs PyTorch: install the extension PyTorch in the Extensions Manager and restart Slicer.")
        ) from error
    return PyTorchUtils.PyTorchUtilsLogic()


@contextmanager
def _nothing_else_changes(names: Sequence[str]) -> Iterator[None]:
    """Let pip change no installed packages but these, also where PyTorch's installer calls it."""
    to_change = {canonicalize_name(name) for name in names}
    kept = {d.name: d.version for d in distributions() if d.name and canonicalize_name(d.name) not in to_change}
    before = os.environ.get("PIP_CONSTRAINT")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "constraints.txt"
        file.write_text("".join(f"{name}=={number}\n" for name, number in kept.items()), encoding="utf-8")
        # as an address, since pip takes blanks for the end of a path
        os.environ["PIP_CONSTRAINT"] = " ".join(filter(None, (before, file.as_uri())))
        try:
            yield
        finally:
            if before is None:
                del os.environ["PIP_CONSTRAINT"]
            else:
                os.environ["PIP_CONSTRAINT"] = before
            importlib.invalidate_caches()
