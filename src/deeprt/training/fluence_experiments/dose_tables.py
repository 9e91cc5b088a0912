"""Section of the experiments' report on predicted doses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from deeprt.evaluation.report import RESEARCH_ONLY
from deeprt.training.fluence_experiments.figures import DOSE
from deeprt.training.fluence_experiments.page import command
from deeprt.training.fluence_experiments.results import BEST_DOSE_SCORE_GY, EVEN, N_REFINED, PREDICTED, Results
from deeprt.training.fluence_experiments.tables import criteria_of, criteria_table
from deeprt.training.measuring.page import ABSENT, Section, not_run, paragraphs, shell, table
from deeprt.training.measuring.results import Json
from deeprt.training.measuring.statistics import Spread, mean_of

_DVH_METRICS = ("D99", "D95", "D1", "D0.1cc", "Dmean")


def dose_section(results: Results) -> Section:
    """Doses of the networks that predict them, and plans from these."""
    title = "Predicted dose"
    if results.dose is None:
        return not_run(title, "dose.json")
    clinical, reference = results.dose["openkbp"], results.dose["pelvis"]
    clinical_numbers, clinical_parts = _clinical(clinical) if clinical else ({}, ["OpenKBP was not run."])
    picture = [
        f"Clinical and predicted dose of the patient with the median dose score. {RESEARCH_ONLY} DVHs are solid for "
        "the clinical dose.",
        f"![Clinical and predicted dose, difference, DVHs]({DOSE})",
    ]
    reference_numbers, reference_parts = _reference(reference)
    plan_numbers, plan_parts = _plans(reference["rows"])
    text = paragraphs(
        "Two networks predict the dose of a plan from contours, prescriptions and the angles of its beams, one for the "
        "pelvis and one for head and neck; they correct the dose of *even beams*. That dose stands beside: equal "
        "fluence in all open beamlets of a beam, all beams with the same mean dose in the target of highest "
        "prescription, together the prescription. No network is needed for it. ± is the sample standard deviation of "
        "the patients.",
        shell(command("dose", "--openkbp work/openkbp")),
        *clinical_parts,
        *(picture if results.dose_example else ()),
        *reference_parts,
        *plan_parts,
    )
    return Section(title, text, {"openkbp": clinical_numbers, "pelvis": reference_numbers, "plans": plan_numbers})


def _training(name: str, about: Json) -> str:
    if about["budget"] is None:
        return f"The {name} network is not trained."
    return (
        f"The {name} network has learned from {about['n_training']} other patients, with {about['n_validation']} more "
        f"for validation: {about['budget']}"
    )


def _clinical(about: Json) -> tuple[Json, list[str]]:
    """Scores of the challenge."""
    numbers, lines = {}, []
    for method in (EVEN, PREDICTED):
        own = [r for r in about["rows"] if r["method"] == method]
        if not own:
            lines.append([f"{method}: not trained", *[ABSENT] * (len(_DVH_METRICS) + 3)])
            continue
        scores, errors = Spread.of(r["dose_score_gy"] for r in own), _dvh_errors(own)
        numbers[method] = {"dose_score_gy": asdict(scores), **errors}
        cells = [ABSENT if errors[key] is None else f"{errors[key]:.2f}" for key in ("DVH score", *_DVH_METRICS)]
        lines.append([method, scores.text(2), *cells, str(scores.n)])
    n_test = len({r["patient"] for r in about["rows"]})
    text = (
        f"**OpenKBP**: {n_test} patients with their clinical doses, who took part in no training; beams are nine of "
        f"the generic 6 MV machine. {_training('head-and-neck', about)} Scores are those of the challenge (A. Babier "
        "et al., Med. Phys. 48, 5549, 2021): the dose score is the mean absolute error over the voxels that can get "
        "dose; the DVH score is that of D99, D95 and D1 of targets and of D0.1cc and Dmean of organs at risk, over all "
        "patients and structures together, and each of these stands beside. The best dose score of the challenge was "
        f"{BEST_DOSE_SCORE_GY:g} Gy, with 200 patients for training and on 100 others. The {n_test} here, and the "
        f"{about['n_training']} for training, are of those 200: it is another test, and the two scores can be compared "
        "roughly at best."
    )
    header = ["Method", "Dose score / Gy", "DVH score / Gy", *(f"{name} / Gy" for name in _DVH_METRICS), "n"]
    return numbers, [text, table(header, lines)]


def _dvh_errors(rows: Sequence[Json]) -> dict[str, float | None]:
    """DVH score, and mean absolute error of each metric, over all patients and structures."""
    errors = [(key, e) for r in rows for own in r["dvh_errors_gy"].values() for key, e in own.items()]
    by_metric = {name: mean_of([e for key, e in errors if key == name]) for name in _DVH_METRICS}
    return {"DVH score": mean_of([e for _, e in errors]), **by_metric}


def _reference(about: Json) -> tuple[Json, list[str]]:
    """Errors on virtual patients."""
    numbers, lines = {}, []
    for method in (EVEN, PREDICTED):
        own = [r for r in about["rows"] if r["method"] == method]
        if not own:
            lines.append([f"{method}: not trained", *[ABSENT] * 4])
            continue
        spreads = {key: Spread.of(r[key] for r in own) for key in ("body_error", "target_error", "gamma")}
        numbers[method] = {key: asdict(s) for key, s in spreads.items()}
        lines.append([method, *(s.text(2, factor=100) for s in spreads.values()), str(len(own))])
    text = (
        "**Virtual patients**: the held-out test patients with their reference plans. Errors are the mean absolute "
        "differences to the dose of the reference plan, over the prescription; gamma is as under *Real doses*. "
        f"{_training('pelvis', about)} How a reference plan weighs its objectives was drawn at random, and contours do "
        "not tell it: no prediction can be free of error here."
    )
    header = ["Method", "Error in the body / %", "Error in the PTV / %", "Gamma 3 %/3 mm / %", "n"]
    return numbers, [text, table(header, lines)]


def _plans(rows: Sequence[Json]) -> tuple[Json, list[str]]:
    """Plans for which no dose was given, beside the reference plans."""
    own = [r for r in rows if "plan" in r]
    if not own:
        return {}, ["Plans from predicted doses were not run: they need the pelvis network and the default network."]
    criteria = criteria_of([r["plan"] for r in own], PREDICTED)
    gamma, error = (Spread.of(r["to_predicted"][key] for r in own) for key in ("gamma", "target_error"))
    mu, factors = Spread(**criteria["monitor_units"]), Spread(**criteria["normalization"])
    text = (
        "What becomes of it, a plan for which no dose was given: smooth maps are fitted to the predicted dose by "
        f"{N_REFINED} refinements, since no fluence gives it exactly, sequenced (sliding window) and scaled to the "
        "predicted mean PTV dose. The synthetic dose agrees with the predicted one by a gamma pass rate of "
        f"{gamma.text(2, factor=100)} % and a mean absolute error in the PTV of {error.text(2, factor=100)} % of the "
        "prescription. Beside the reference plans, with the criteria of table 2, errors of prediction, fluence and "
        f"leaves come together; {len(own)} plans, monitor units over the reference's {mu.text(3)}, normalization "
        f"{factors.text(4)}:"
    )
    numbers = {**criteria, "gamma": asdict(gamma), "target_error": asdict(error)}
    return numbers, [text, criteria_table(criteria["criteria"])]
