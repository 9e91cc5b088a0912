"""How results of a plan stand, in few words."""

from dataclasses import replace

import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

from deeprt_mrml.fluence_planning import Stage, StageState

ACTIONS = ("predict", "optimize", "refine", "sequence", "dose", "compare", "export", "all")
CURRENT, OUTDATED, MISSING = StageState.CURRENT, StageState.OUTDATED, StageState.MISSING


def states(planning):
    return [planning.stage_state(s) for s in Stage]


def change(planning, **parts):
    plan = planning._session.plan
    plan.config = replace(plan.config, **parts)
