import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from deeprt.roles import tg263_organ

FOLDER = Path(__file__).parents[2] / "src" / "deeprt" / "data" / "protocols"
FILES = sorted(FOLDER.glob("*.toml"))
METRIC = re.compile(r"D(mean|max|min|\d+(\.\d+)?(%|cc))|V\d+(\.\d+)?(Gy|%)")
WORDS = {"targets", "organs_at_risk", "external", "Ring", "Skin"}
TYPES = {
    "squared_deviation", "squared_overdose", "squared_underdose", "mean_dose", "max_dvh", "min_dvh", "gEUD",
}  # fmt: skip


def read(file: Path) -> dict[str, Any]:
    return tomllib.loads(file.read_text(encoding="utf-8"))


def is_known(structure: str) -> bool:
    return structure in WORDS or tg263_organ(structure) == structure


def test_there_is_a_protocol_for_every_site() -> None:
    names = [f.stem for f in FILES]
    assert names == ["generic", "head_and_neck", "prostate", "prostate_60in20", "tg119_c_shape"]
    assert [f.stem for f in FILES if not read(f)["organs"]] == ["generic"]


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_goals_follow_the_grammar_and_name_their_source(file: Path) -> None:
    goals = read(file)["goals"]
    for goal in goals:
        assert set(goal) == {"structure", "metric", "relation", "limit", "unit", "source"}
        assert METRIC.fullmatch(goal["metric"]), goal
        assert goal["relation"] in ("<=", ">=")
        assert goal["unit"] in (("Gy", "%") if goal["metric"].startswith("D") else ("%", "cc")), goal
        assert is_known(goal["structure"]), goal
        assert goal["source"]
    assert {(g["metric"], g["limit"]) for g in goals} >= {("D95%", 95), ("D98%", 90), ("D2%", 112)}


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_objectives_are_complete(file: Path) -> None:
    objectives = read(file)["objectives"]
    for objective in objectives:
        assert objective["type"] in TYPES
        assert ("dose_gy" in objective) != ("dose_percent" in objective), objective
        assert ("exponent" in objective) == (objective["type"] == "gEUD"), objective
        assert ("volume_percent" in objective) == objective["type"].endswith("_dvh"), objective
        assert objective["weight"] > 0
        assert is_known(objective["structure"]), objective
    types = {o["type"] for o in objectives if o["structure"] == "targets"}
    assert types == {"squared_underdose", "squared_overdose"}


def test_prostate_protocols_differ_by_dose_per_fraction() -> None:
    conventional, short = read(FOLDER / "prostate.toml"), read(FOLDER / "prostate_60in20.toml")
    assert conventional["organs"] == short["organs"]
    assert conventional["dose_per_fraction_range_gy"][1] < short["dose_per_fraction_range_gy"][0]
