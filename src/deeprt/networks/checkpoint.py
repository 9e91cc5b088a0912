"""Files of networks: shipped weights with their model card, and the state of a training to go on with."""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cattrs
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from deeprt.errors import InputError
from deeprt.files import whole_file, write_whole

_CONVERTER = cattrs.Converter(forbid_extra_keys=True)
# What torch's unpickler raises that meets other bytes than it has written.
_DAMAGED = (
    *(OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, AssertionError),
    *(struct.error, pickle.UnpicklingError),
)


@dataclass(frozen=True)
class ModelCard:
    """What must be known of a trained network; stands as JSON beside its weights.

    Parameters
    ----------
    network : kind of network
    config : its sizes, plain data
    data : what it was trained on: cohort, patients, seeds, scenarios, in words
    split : of the patients, in words
    budget : of the training: steps, batch, time, hardware, in words
    metrics : measured on patients that took no part in the training, unless the name says otherwise
    limits : where it should not be trusted, one sentence each
    trained : date, ISO 8601
    commit, code_version : of the code that trained it
    site : trained on, such as prostate
    organs : TG-263 names of the organs at risk that all training patients had
    n_beams_max : largest number of beams in a plan of the training
    candidates : trained on, such as ``coplanar:2``; ``coplanar`` where beams were not chosen from any
    extent_mm : box around the targets of a training patient, along L, P and S: the largest one of each
    weights_sha256 : of the weights' file, by which both are known to belong together; set by `save_checkpoint`
    n_beams_min : least number of beams in a plan of the training
    energy_mv : of the beams trained on; None if it does not count, or if they had several
    prescription_levels : of the targets trained on, over the highest of the patient; empty if they do not count
    """

    network: str
    config: Mapping[str, Any]
    data: str
    split: str
    budget: str
    metrics: Mapping[str, float]
    limits: tuple[str, ...]
    trained: str
    commit: str
    code_version: str
    site: str
    organs: tuple[str, ...]
    n_beams_max: int
    candidates: str
    extent_mm: tuple[float, float, float]
    weights_sha256: str = ""
    n_beams_min: int = 1
    energy_mv: float | None = None
    prescription_levels: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        # As JSON gives it back: a config of `asdict` holds tuples.
        object.__setattr__(self, "config", json.loads(json.dumps(self.config)))


def save_checkpoint(file: Path, network: nn.Module, card: ModelCard) -> ModelCard:
    """Write weights (safetensors, half precision) and, beside them under the same name, their card (JSON).

    Kind and configuration of the network stand in both. A weight rounded to half precision is off by up to 2⁻¹¹ of
    itself, and by 3e-8 if it is below 6e-5.

    Returns
    -------
    The card as it was written, with the hash of the weights

    Raises
    ------
    ValueError
        If a weight is not finite in half precision.
    """
    state = {name: _portable(name, value) for name, value in network.state_dict().items()}
    with whole_file(file) as scratch:
        save_file(state, scratch, {"network": card.network, "config": json.dumps(card.config)})
        card = replace(card, weights_sha256=_sha256(scratch))
    write_card(file, card)
    return card


def write_card(file: Path, card: ModelCard) -> None:
    """Write the card of weights anew, for example after they were measured."""
    write_whole(file.with_suffix(".json"), json.dumps(asdict(card), indent=1, ensure_ascii=False) + "\n")


def load_state(file: Path) -> tuple[ModelCard, dict[str, Tensor]]:
    """Read a network's card and its weights, as single precision, on the CPU.

    Raises
    ------
    InputError
        If a file is missing, not whole or damaged, or the card is not of these weights.
    """
    card = _read_card(file.with_suffix(".json"))
    try:
        digest = _sha256(file)
        with safe_open(file, framework="pt") as content:
            about = content.metadata() or {}
            state = {name: content.get_tensor(name).float() for name in content.keys()}  # noqa: SIM118
    except OSError as error:
        raise InputError(f"The network's weights '{file}' cannot be read: {error.strerror}.") from error
    except SafetensorError as error:
        raise InputError(f"The network's weights '{file}' are damaged ({error}); get the file anew.") from error
    if digest != card.weights_sha256:
        raise InputError(f"The network's weights '{file}' are damaged or not those of the card beside; get both anew.")
    if (about["network"], json.loads(about["config"])) != (card.network, card.config):
        raise InputError(f"The model card of '{file}' states another network or configuration; get the card anew.")
    return card, state


def load_network(
    file: Path, kinds: Mapping[str, tuple[type[Any], Callable[[Any], nn.Module]]]
) -> tuple[ModelCard, nn.Module]:
    """Read a network, ready to predict.

    Parameters
    ----------
    kinds : configuration and class of each kind of network that is known, such as ``(PaperConfig, PaperNetwork)``

    Raises
    ------
    InputError
        As `load_state`; if the kind is not known, or weights and configuration do not fit.
    """
    card, state = load_state(file)
    if card.network not in kinds:
        raise InputError(f"'{file}' holds a network '{card.network}'; known here are {', '.join(kinds)}.")
    config_type, network_type = kinds[card.network]
    network = network_type(_structured(card.config, config_type, f"'{file}', configuration"))
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        raise InputError(f"The weights of '{file}' do not fit their configuration: {lines[-1].rstrip('.')}.") from error
    return card, network.eval()


def save_training_state(file: Path, state: Mapping[str, Any]) -> None:
    """Write what a training needs to go on: weights, optimizer and generator states, numbers and text."""
    with whole_file(file) as scratch:
        torch.save(dict(state), scratch)


def load_training_state(file: Path) -> dict[str, Any]:
    """Read a training's state, onto the CPU; the file cannot run code.

    Raises
    ------
    InputError
        If the file is not whole; a file that is missing is a `FileNotFoundError`.
    """
    try:
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except _DAMAGED as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise InputError(f"The training state '{file}' cannot be read ({reason}); remove it to begin anew.") from error
    return state


def _portable(name: str, value: Tensor) -> Tensor:
    value = value.detach().to("cpu", torch.float16).contiguous()
    if not bool(value.isfinite().all()):
        raise ValueError(f"Weights '{name}' are not finite in half precision.")
    return value


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _read_card(file: Path) -> ModelCard:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"The network's model card '{file}' cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"The network's model card '{file}' is not valid JSON: {error}.") from error
    card: ModelCard = _structured(content, ModelCard, f"Model card '{file}'")
    return card


def _structured(content: Any, kind: type[Any], origin: str) -> Any:
    try:
        return _CONVERTER.structure(content, kind)
    except cattrs.BaseValidationError as error:
        raise InputError(f"{origin}: {cattrs.transform_error(error)[0].rstrip('.')}.") from error
