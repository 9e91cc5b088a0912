"""Files of networks: they come back as they were, or not at all."""

import json
from dataclasses import asdict, dataclass, replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn

from deeprt.errors import InputError
from deeprt.networks.checkpoint import (
    ModelCard,
    load_network,
    load_state,
    load_training_state,
    save_checkpoint,
    save_training_state,
    write_card,
)
from deeprt.networks.paper_network import PaperConfig, PaperNetwork

# Rounding to 11 bits; below 2^-14 the step is 2^-24, so half of it is lost.
HALF = {"rtol": 2**-11, "atol": 2**-25}


@dataclass(frozen=True)
class LineConfig:
    n_in: int
    widths: tuple[int, ...] = (3, 2)


class Line(nn.Module):
    """A network of two layers."""

    def __init__(self, config):
        super().__init__()
        first, second = config.widths
        self.layers = nn.Sequential(nn.Linear(config.n_in, first), nn.Linear(first, second))


KINDS = {"line": (LineConfig, Line), "paper": (PaperConfig, PaperNetwork)}
CONFIG = LineConfig(40)


def a_card(config=CONFIG, network="line"):
    return ModelCard(
        network=network,
        config=asdict(config),
        data="3 virtual patients, seeds 1 to 3, 4 scenarios each",
        split="2 for training, 1 for test",
        budget="7 steps of batch 1 on two cores",
        metrics={"test MSE": 0.0144},
        limits=("Prostate only.", "At most five beams, ±2° apart."),
        trained="2024-05-06",
        commit="abc1234",
        code_version="0.1.0",
        site="prostate",
        organs=("Bladder", "Rectum"),
        n_beams_max=5,
        candidates="coplanar:2",
        extent_mm=(101.5, 90.0, 85.0),
    )


def a_line(config=CONFIG, seed=1):
    torch.manual_seed(seed)
    return Line(config)


@pytest.fixture
def file(tmp_path):
    """Saved weights with their card."""
    save_checkpoint(tmp_path / "line.safetensors", a_line(), a_card())
    return tmp_path / "line.safetensors"


def change_card(file, **changes):
    card = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    file.with_suffix(".json").write_text(json.dumps(card | changes), encoding="utf-8")


def test_weights_come_back_rounded_to_half_precision(file):
    _, network = load_network(file, KINDS)
    assert not network.training
    for name, value in a_line().state_dict().items():
        back = network.state_dict()[name]
        assert back.dtype == torch.float32
        torch.testing.assert_close(back, value, **HALF)
    assert file.stat().st_size < 2 * sum(p.numel() for p in network.parameters()) + 1000  # and a header


def test_the_papers_network_comes_back(tmp_path):
    config = PaperConfig(36, 52, 7.0, (2, 2, 2), 8, stage_widths=(4, 4, 4, 4))
    network = PaperNetwork(config, generator=torch.Generator().manual_seed(1)).half().float()
    save_checkpoint(tmp_path / "a.safetensors", network, a_card(config, "paper"))
    _, back = load_network(tmp_path / "a.safetensors", KINDS)
    assert back.config == config
    channels = torch.rand(1, 2, 52, 52, 52, generator=torch.Generator().manual_seed(2))
    chosen = torch.zeros(1, 36, dtype=torch.bool)
    with torch.no_grad():
        assert torch.equal(back(back.encode(channels), chosen), network(network.encode(channels), chosen))


def test_the_card_comes_back(tmp_path):
    written = save_checkpoint(tmp_path / "line.safetensors", a_line(), a_card())
    card, _ = load_state(tmp_path / "line.safetensors")
    assert card == written == replace(a_card(), weights_sha256=written.weights_sha256)
    assert "±2°" in (tmp_path / "line.json").read_text(encoding="utf-8")


def test_a_card_can_be_written_anew(file):
    card, _ = load_state(file)
    write_card(file, replace(card, metrics={"test MSE": 0.01}))
    assert load_state(file)[0].metrics == {"test MSE": 0.01}


def test_the_weights_file_names_network_and_configuration(file):
    with safe_open(file, framework="pt") as content:
        assert content.metadata() == {"network": "line", "config": json.dumps({"n_in": 40, "widths": [3, 2]})}


def test_only_whole_files_appear(file):
    assert sorted(f.name for f in file.parent.iterdir()) == ["line.json", "line.safetensors"]


@pytest.mark.parametrize("value", [float("nan"), 1e6])
def test_weights_that_half_precision_cannot_hold_are_not_written(file, value):
    before, network = file.read_bytes(), a_line()
    with torch.no_grad():
        network.layers[0].weight[0, 0] = value
    with pytest.raises(ValueError, match=r"'layers\.0\.weight' are not finite in half precision"):
        save_checkpoint(file, network, a_card())
    assert file.read_bytes() == before


@pytest.mark.parametrize("n_bytes", [0, 5, 60, 300])
def test_a_file_that_is_not_whole_is_refused(file, n_bytes):
    file.write_bytes(file.read_bytes()[:n_bytes])
    with pytest.raises(InputError, match="damaged"):
        load_network(file, KINDS)


def test_a_single_wrong_byte_is_refused(file):
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match="damaged or not those of the card"):
        load_network(file, KINDS)


def test_the_weights_of_another_card_are_refused(file):
    save_checkpoint(file.with_name("other.safetensors"), a_line(seed=2), a_card())
    file.with_name("other.safetensors").replace(file)
    with pytest.raises(InputError, match="not those of the card"):
        load_network(file, KINDS)


@pytest.mark.parametrize("change", [{"network": "paper"}, {"config": {"n_in": 41, "widths": [3, 2]}}])
def test_a_card_of_another_network_is_refused(file, change):
    change_card(file, **change)
    with pytest.raises(InputError, match="states another network or configuration"):
        load_network(file, KINDS)


def test_an_unknown_network_is_refused(tmp_path):
    save_checkpoint(tmp_path / "a.safetensors", a_line(), a_card(network="odd"))
    with pytest.raises(InputError, match=r"holds a network 'odd'; known here are line, paper\."):
        load_network(tmp_path / "a.safetensors", KINDS)


def test_weights_that_do_not_fit_their_configuration_are_refused(tmp_path):
    save_checkpoint(tmp_path / "a.safetensors", a_line(), a_card(LineConfig(39)))
    with pytest.raises(InputError, match=r"do not fit their configuration: size mismatch for layers\.0\.weight"):
        load_network(tmp_path / "a.safetensors", KINDS)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"n_in": 40, "widths": [3, 2], "depth": 1}, "configuration: .*depth"),
        ({"widths": [3, 2]}, "configuration: .*n_in"),
        ({"n_in": "many"}, "configuration: .*n_in"),
    ],
)
def test_a_configuration_that_is_not_the_networks_is_refused(tmp_path, config, message):
    save_checkpoint(tmp_path / "a.safetensors", a_line(), replace(a_card(), config=config))
    with pytest.raises(InputError, match=message):
        load_network(tmp_path / "a.safetensors", KINDS)


@pytest.mark.parametrize("name", ["line.safetensors", "line.json"])
def test_a_missing_file_is_named(file, name):
    (file.parent / name).unlink()
    with pytest.raises(InputError, match=rf"{name}' cannot be read: No such file"):
        load_network(file, KINDS)


@pytest.mark.parametrize(("content", "message"), [("{", "is not valid JSON"), ("{}", "required field missing")])
def test_a_card_that_is_none_is_refused(file, content, message):
    file.with_suffix(".json").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        load_network(file, KINDS)


def test_an_unknown_entry_of_a_card_is_refused(file):
    change_card(file, shade="blue")
    with pytest.raises(InputError, match="shade"):
        load_network(file, KINDS)


def a_training_state():
    network = a_line()
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    network.layers(torch.ones(1, CONFIG.n_in)).sum().backward()
    optimizer.step()
    return {
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "torch": torch.get_rng_state(),
        "numpy": np.random.default_rng(3).bit_generator.state,
        "epoch": 4,
        "curve": [0.5, 0.25],
        "config": {"name": "line"},
    }


def test_a_training_goes_on_where_it_was(tmp_path):
    state = a_training_state()
    save_training_state(tmp_path / "new" / "last.pt", state)
    back = load_training_state(tmp_path / "new" / "last.pt")
    for name in ("numpy", "epoch", "curve", "config"):
        assert back[name] == state[name]
    torch.testing.assert_close(back["network"], state["network"], rtol=0, atol=0)
    torch.testing.assert_close(back["optimizer"]["state"], state["optimizer"]["state"], rtol=0, atol=0)
    assert torch.equal(back["torch"], state["torch"])
    assert [f.name for f in (tmp_path / "new").iterdir()] == ["last.pt"]


def test_a_training_state_that_cannot_be_written_leaves_the_former_one(tmp_path):
    save_training_state(tmp_path / "last.pt", {"epoch": 1})
    with pytest.raises(Exception, match="pickle"):
        save_training_state(tmp_path / "last.pt", {"epoch": lambda: 2})
    assert load_training_state(tmp_path / "last.pt") == {"epoch": 1}
    assert [f.name for f in tmp_path.iterdir()] == ["last.pt"]


@pytest.mark.parametrize("n_bytes", [0, 10, 1000])
def test_a_training_state_that_is_not_whole_is_refused(tmp_path, n_bytes):
    file = tmp_path / "last.pt"
    save_training_state(file, a_training_state())
    file.write_bytes(file.read_bytes()[:n_bytes])
    with pytest.raises(InputError, match=r"cannot be read .*; remove it to begin anew"):
        load_training_state(file)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_training_state_with_a_changed_byte_is_refused_or_read(tmp_path):
    file = tmp_path / "last.pt"
    save_training_state(file, {"network": {"w": torch.arange(5.0)}, "epochs": [{"number": 1}]})
    whole, n_refused = file.read_bytes(), 0
    for place in range(whole.index(b"PK", 4)):  # the pickle is the first part
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            load_training_state(file)
        except InputError:
            n_refused += 1
    assert n_refused > 100


class Trap:
    def __reduce__(self):
        return (eval, ("1 / 0",))


def test_a_training_state_cannot_run_code(tmp_path):
    torch.save({"epoch": Trap()}, tmp_path / "last.pt")
    with pytest.raises(InputError, match="cannot be read"):
        load_training_state(tmp_path / "last.pt")


def test_a_training_that_has_not_begun_has_no_state(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_training_state(tmp_path / "last.pt")
