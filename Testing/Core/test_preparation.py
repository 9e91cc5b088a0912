"""What is settled before a case is planned."""

from dataclasses import replace

import numpy as np
import pytest

from deeprt.config import PlanningConfig
from deeprt.errors import InputError
from deeprt.preparation import water_phantom, with_prescriptions
from deeprt.structures import Role, Structure

CASE = water_phantom(50.0)


@pytest.mark.parametrize("protocol", ["prostate", "generic"])
def test_a_case_without_target_is_refused_whether_or_not_the_protocol_has_a_usual_dose(protocol):
    case = replace(CASE, structures=CASE.structures[:1])
    with pytest.raises(InputError, match="The case has no target; name one"):
        with_prescriptions(case, PlanningConfig(protocol=protocol))


def test_the_usual_dose_is_for_one_target():
    share = np.where(CASE.structures[1].fraction > 0, 1, 0).astype(np.float32)
    one, other = (Structure(name, Role.TARGET, share) for name in ("A", "B"))
    config = PlanningConfig(protocol="prostate")
    _, case, notes = with_prescriptions(replace(CASE, structures=(CASE.structures[0], one)), config)
    assert [t.name for t in case.targets] == ["A"]
    assert notes[0].startswith("A is prescribed ")
    with pytest.raises(InputError, match=r"Several targets have no prescription \(A, B\)"):
        with_prescriptions(replace(CASE, structures=(CASE.structures[0], one, other)), config)
