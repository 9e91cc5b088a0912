import json
import re
import tomllib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import pytest
import tomli_w
from Core.plan_samples import a_case

from deeprt.config import (
    BeamSettings,
    FluenceSettings,
    Normalization,
    PlanningConfig,
    Protocol,
    from_plain,
    propose_protocol,
    protocol_names,
    read_config,
    read_protocol,
    to_plain,
)
from deeprt.delivery.step_and_shoot import SequencingSettings
from deeprt.errors import InputError
from deeprt.evaluation.criteria import Criterion
from deeprt.fluence.solvers import SolverSettings
from deeprt.fluence.specification import ObjectiveSpec
from deeprt.orientation.teacher import CandidateSettings
from deeprt.roles import StructureChoice
from deeprt.structures import Role

EXAMPLE = Path(__file__).parents[2] / "Resources" / "Examples" / "plan.toml"


def read(tmp_path, text, name="plan.toml"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return read_config(path)


def with_organs(*organs, prescription_gy=70.0):
    """The sample case with organs in place of its tube and one prescribed target."""
    case = a_case()
    tube, target = case.structure("Tube"), case.structure("PTV_60")
    made = tuple(replace(tube, name=f"structure {n}", organ=organ) for n, organ in enumerate(organs))
    return replace(case, structures=(case.external, replace(target, prescription_gy=prescription_gy), *made))


# The example


def test_the_example_is_read():
    config = read_config(EXAMPLE)
    assert config.prescription_gy == {"PTV_60": 60.0}
    assert config.structures["Rectum"] == StructureChoice(Role.ORGAN_AT_RISK, "Rectum", density=1.0)
    assert config.beams == BeamSettings(n_beams=5)
    assert {o.type for o in config.objectives} >= {"gEUD", "max_dvh", "mean_dose"}
    assert config.goals[1].source


def test_the_example_states_the_defaults_where_it_does_not_say_otherwise():
    config = read_config(EXAMPLE)
    assert config.fluence == FluenceSettings()
    assert config.selection == CandidateSettings()
    assert config.sequencing == SequencingSettings()
    assert config.normalization == Normalization()
    assert (config.machine, config.dose_grid_mm, config.device, config.seed) == ("generic_6mv", 3.0, "auto", 0)


def shown(settings, content):
    """Every dataclass in a configuration with the keys that a file's content gives it."""
    if is_dataclass(settings):
        yield type(settings), set(content)
        for key, value in content.items():
            yield from shown(getattr(settings, key), value)
    elif isinstance(settings, Mapping):
        for key, value in content.items():
            yield from shown(settings[key], value)
    elif isinstance(settings, tuple):
        for part, value in zip(settings, content, strict=True):
            yield from shown(part, value)


def kinds(settings):
    """Every kind of settings within settings."""
    if is_dataclass(settings):
        yield type(settings)
        for f in fields(settings):
            yield from kinds(getattr(settings, f.name))


def test_the_example_shows_every_setting_and_those_commented_out_are_valid():
    text = re.sub(r"^# (\w+ = )", r"\1", EXAMPLE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    content = tomllib.loads(text)
    config = from_plain(PlanningConfig, content, "example")
    assert (config.hu_table, config.series, config.structure_set) == ("scanner.csv", "1.2.840.1", "1.2.840.2")
    keys = defaultdict(set)
    for kind, given in shown(config, content):
        keys[kind] |= given
    assert set(keys) == {*kinds(config), StructureChoice, ObjectiveSpec, Criterion}
    for kind, given in keys.items():
        assert given == {f.name for f in fields(kind)}, kind


# Reading and writing


def test_an_empty_file_gives_the_defaults(tmp_path):
    assert read(tmp_path, "") == PlanningConfig()
    assert read(tmp_path, "{}", "plan.json") == PlanningConfig()


def test_toml_and_json_give_the_same_configuration(tmp_path):
    content = tomllib.loads(EXAMPLE.read_text(encoding="utf-8"))
    assert read(tmp_path, json.dumps(content), "plan.json") == read_config(EXAMPLE)


@pytest.mark.parametrize("name", ["plan.toml", "plan.json"])
def test_a_configuration_survives_writing_and_reading(tmp_path, name):
    config = replace(
        read_config(EXAMPLE),
        n_fractions=None,
        hu_table="a table.csv",
        beams=BeamSettings(gantry_deg=(0.5, 90.0), couch_deg=(0.0, 15.0), collimator_deg=7.5),
        fluence=FluenceSettings(solver=SolverSettings("chambolle-pock", 30, 1e-3, 2.5)),
        seed=11,
        dose_grid_mm=2.5,
    )
    plain = to_plain(config)
    assert "n_fractions" not in plain
    text = tomli_w.dumps(plain) if name.endswith("toml") else json.dumps(plain)
    assert read(tmp_path, text, name) == config


def test_the_default_configuration_survives_writing_and_reading(tmp_path):
    assert read(tmp_path, tomli_w.dumps(to_plain(PlanningConfig()))) == PlanningConfig()


# What is refused


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("machin = 'a'", r"plan\.toml: unknown key 'machin' \(known are machine, dose_grid_mm, .*, seed\)\."),
        ("a = 1\nb = 2", "unknown key 'a, b'"),
        ("[beams]\nnumber = 5", r"plan\.toml, beams: unknown key 'number' \(known are select, n_beams, .*\)\."),
        ("[fluence.solver]\nsteps = 5", r"fluence\.solver: unknown key 'steps' \(known are solver, max_iterations, "),
        (
            "[structures.PTV]\ndose = 5",
            r"structures\['PTV'\]: unknown key 'dose' \(known are role, organ, prescription",
        ),
        ("[[objectives]]\ntype = 'mean_dose'\nstructure = 'a'\nweight = 1\np = 2", r"objectives\[0\]: unknown key 'p'"),
    ],
)
def test_an_unknown_key_is_refused_and_the_known_ones_named(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed = 1.5", "seed: expected a whole number, got 1.5"),
        ("n_fractions = '20'", "n_fractions: expected a whole number, got '20'"),
        ("seed = true", "seed: expected a whole number, got True"),
        ("machine = 6", "machine: expected text, got 6"),
        ("dose_grid_mm = nan", "dose_grid_mm: expected a finite number, got nan"),
        ("[beams]\ngantry_deg = [0, 'x']", r"beams\.gantry_deg\[1\]: expected a number, got 'x'"),
        ("[prescription_gy]\nPTV = 'sixty'", r"prescription_gy\['PTV'\]: expected a number, got 'sixty'"),
        ("device = 'tpu'", "device: expected one of auto, cpu, cuda, got 'tpu'"),
        (
            "[structures.A]\nrole = 'tumor'",
            r"structures\['A'\]\.role: expected one of target, organ_at_risk, .* 'tumor'",
        ),
        ("[[goals]]\nstructure = 'A'", r"goals\[0\]\.\w+: key '\w+' is missing"),
        ("beams = 3", "beams: a value of the wrong kind"),
        ("objectives = 3", "objectives: a value of the wrong kind"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(tmp_path, text, message):
    with pytest.raises(InputError, match=r"plan\.toml, " + message) as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dose_grid_mm = 0.5", r"The dose grid must be 1 to 10 mm, got 0\.5 mm\.$"),
        ("n_fractions = 0", r"The number of fractions must be at least 1, got 0\.$"),
        ("[beams]\nn_beams = 0", r"beams: The number of beams must be at least 1, got 0\.$"),
        ("[beams]\ngantry_deg = [0, 9]\ncouch_deg = [0]", "there are 2 gantry and 1 couch angles"),
        ("[fluence]\nbackground_share = 0", "background_share must lie above 0 and up to 1, got 0"),
        ("[fluence]\nbeamlet_width_mm = 0", "beamlet_width_mm must be positive"),
        ("[fluence.solver]\nmax_iterations = 0", r"fluence\.solver: Solver settings: .* must be positive\.$"),
        ("[sequencing]\nmax_segments_per_beam = 0", "must be at least 1"),
        ("[normalization]\nvolume_percent = 0", "volume_percent must lie in 0 to 100"),
        ("[normalization]\ndose_percent = 300", "dose_percent in 0 to 200"),
        ("[[objectives]]\nstructure = 'A'\ntype = 'mean'\nweight = 1", r"objectives\[0\]: .* unknown type; known are"),
    ],
)
def test_a_value_out_of_its_range_is_refused(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read(tmp_path, text)


def test_a_prescription_that_is_not_positive_is_refused():
    with pytest.raises(InputError, match=r"prescription of 'PTV' must be positive, got -2 Gy"):
        PlanningConfig(prescription_gy={"PTV": -2.0}).structure_choices()


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"Cannot read '.*absent\.toml': No such file or directory\."):
        read_config(tmp_path / "absent.toml")
    with pytest.raises(InputError, match=r"plan\.toml' is not valid TOML: "):
        read(tmp_path, "seed = ")
    with pytest.raises(InputError, match=r"plan\.json' is not valid JSON: "):
        read(tmp_path, "{", "plan.json")
    with pytest.raises(InputError, match=r"plan\.json' must hold a table of settings\."):
        read(tmp_path, "[1]", "plan.json")
    (tmp_path / "latin.toml").write_bytes(b"machine = '\xe4'")
    with pytest.raises(InputError, match=r"latin\.toml' is not valid TOML"):
        read_config(tmp_path / "latin.toml")


# What is set for structures


def test_prescriptions_and_structures_are_one_choice():
    config = PlanningConfig(
        prescription_gy={"A": 50.0, "B": 60.0},
        structures={"B": StructureChoice(organ="Bladder"), "C": StructureChoice(role=Role.OTHER)},
    )
    assert config.structure_choices() == {
        "A": StructureChoice(prescription_gy=50.0),
        "B": StructureChoice(organ="Bladder", prescription_gy=60.0),
        "C": StructureChoice(role=Role.OTHER),
    }


# Protocols


@pytest.mark.parametrize("name", protocol_names())
def test_every_shipped_protocol_is_read(name):
    protocol = read_protocol(name)
    assert isinstance(protocol, Protocol)
    assert protocol.name and protocol.objectives and protocol.goals
    low, high = protocol.dose_per_fraction_range_gy
    assert low <= protocol.dose_per_fraction_gy <= high


def test_a_protocol_file_is_read(tmp_path):
    path = tmp_path / "site.toml"
    path.write_text('name = "Site"\nprescription_gy = 30\n')
    assert read_protocol(str(path)) == Protocol("Site", prescription_gy=30.0)


def test_a_protocol_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(
        InputError, match="No protocol 'lung': it is neither a file nor one of generic, head_and_neck, "
    ):
        read_protocol("lung")
    (tmp_path / "site.toml").write_text('name = "Site"\norgan = []\n')
    with pytest.raises(InputError, match=r"site\.toml: unknown key 'organ' \(known are name, organs, "):
        read_protocol(str(tmp_path / "site.toml"))


def test_the_protocol_follows_organs_and_dose_per_fraction():
    pelvis = with_organs("Bladder", "Rectum", "Femur_Head_L", prescription_gy=70.0)
    assert propose_protocol(pelvis, 35) == read_protocol("prostate")
    assert propose_protocol(with_organs("Bladder", "Rectum", prescription_gy=60.0), 20) == read_protocol(
        "prostate_60in20"
    )
    assert propose_protocol(with_organs("Core", prescription_gy=50.0), 25) == read_protocol("tg119_c_shape")


def test_without_its_organs_or_its_dose_per_fraction_a_site_protocol_is_not_proposed():
    assert propose_protocol(with_organs("Bladder"), 35) == read_protocol("generic")
    assert propose_protocol(with_organs("Bladder", "Rectum", prescription_gy=36.0), 5) == read_protocol("generic")
