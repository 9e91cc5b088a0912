"""A small labeled cohort: phantoms of a water box whose target lies elsewhere in each."""

from dataclasses import replace

from Core.dicom_samples import Roi, circle
from Core.pipeline_samples import BODY, CORD, PLANES, a_study

from deeprt.cohort.labels import LabelSettings, label_patient, write_labels
from deeprt.cohort.scenarios import ScenarioSettings
from deeprt.machine_file import read_machine
from deeprt.orientation.teacher import CandidateSettings
from deeprt.training.cohort import labels_file, read_cohort, real_cohort, write_cohort

# As many candidates as the paper's network needs at least; a run of two beams and two random starts of one beam.
LABELS = LabelSettings(
    CandidateSettings("coplanar:10", voxel_mm=8.0, beamlet_mm=10.0, image_pixel_mm=4.0, memory_mb=500.0),
    ScenarioSettings(1, 2, 2),
)
N_STATES = 4  # of a patient
CENTERS_MM = ((12.0, -7.0), (-15.0, 5.0), (0.0, -12.0))


def a_cohort(folder, *, labels=LABELS):
    """Write three patients, the cohort of them, one for test, and its labels."""
    for n, center in enumerate(CENTERS_MM):
        a_study(folder / "patients" / f"P{n}", BODY, Roi("PTV_60", "PTV", circle(center, 14.0, PLANES[3:9])), CORD)
    write_cohort(replace(real_cohort(folder / "patients", 1), labels=labels), folder)
    return label(folder)


def label(folder):
    """Label a cohort in this process."""
    cohort = read_cohort(folder)
    (folder / "labels").mkdir(exist_ok=True)
    for patient in cohort.patients:
        labels = label_patient(patient.load(), read_machine(cohort.machine), cohort.labels, seed=patient.seed)
        write_labels(labels, labels_file(folder, patient))
    return cohort
