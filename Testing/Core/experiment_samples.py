"""Made-up results of experiments, of the form that `deeprt.training.experiments` writes."""

import json

import numpy as np

N = 180
METRICS = {"D98": 0.97, "D99": 0.96, "Dmax": 1.08, "homogeneity": 0.07, "van_t_riet": 0.85, "R50": 4.4}
ORGANS = {"PTV_60": (1.0, 1.08), "Bladder": (0.35, 1.05), "Rectum": (0.4, 1.04), "Femur_Head_L": (0.2, 0.5)}
ORGANS |= {"Femur_Head_R": (0.2, 0.5), "PenileBulb": (0.2, 0.8), "Bag_Bowel": (0.02, 0.4), "BODY": (0.06, 1.08)}
EXCESS = {"default": 0.004, "paper": 0.03, "full": 0.05, "coarse": 0.01, "mean curve": 0.06, "random": 0.2}


def some_results(folder, n_patients=4, n_scenarios=3, n_folds=3, seed=0):
    rng = np.random.default_rng(seed)
    patients = [(f"virtual-{n:04d}", n % 3 == 0) for n in range(1, n_patients + 1)]
    folder.mkdir(parents=True)
    runs = {"default": range(1, n_folds + 1), "paper": [1], "full": [1]}
    results = {
        "training": some_training(rng, runs),
        "mse": some_errors(rng, runs),
        "examples": some_examples(rng),
        "plans": some_plans(rng, patients, n_scenarios, runs),
        "forced": some_forced(rng, patients, n_scenarios),
        "search": some_searches(rng, patients[:3]),
        "real": {
            "cort_prostate": some_plans(rng, [("cort_prostate", True)], 10, {"default": [1]}),
            "openkbp": {
                "n_development": 100,
                "n_train": 83,
                "n_test": 20,
                "mse": {m: {"0": 0.01, "all": 0.012} for m in ("default", "default, trained on prostate", "random")},
                "plans": some_plans(rng, [("pt_1", False), ("pt_2", False)], 5, {"default": [1]}),
            },
        },
        "times": {
            "hardware": "2 cores of a made-up processor",
            "threads": 2,
            "load_network_s": 0.02,
            "encode_s": rng.uniform(0.5, 0.6, 7).tolist(),
            "five_beams_s": rng.uniform(0.2, 0.3, 7).tolist(),
            "re_prediction_s": rng.uniform(0.04, 0.06, 7).tolist(),
            "exchange_s": rng.uniform(1, 2, 7).tolist(),
            "n_voxels": 1_000_000,
            "case": "a made-up patient",
        },
    }
    results["exchanged"] = some_exchanged(rng, results["plans"])
    for name, content in results.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    np.savez(folder / "dose.npz", **some_dose())


def some_training(rng, runs):
    lengths = {"default": (60, 0.005, 12.0), "paper": (25, 0.02, 300.0), "full": (20, 0.03, 260.0)}
    folds = {}
    for network, (n_epochs, floor, epoch_s) in lengths.items():
        folds[network] = []
        for fold in runs[network]:
            epoch = np.arange(1, n_epochs + 1 - 3 * (fold % 2))
            training = (floor + 0.06 * np.exp(-epoch / 6)) * rng.normal(1, 0.05, epoch.size)
            validation = 1.4 * training * rng.normal(1, 0.05, epoch.size)
            best = int(np.argmin(validation))
            found = {"fold": fold, "best_epoch": best + 1, "n_epochs": epoch.size, "seconds": epoch_s * epoch.size}
            for name, k in (("best", best), ("last", -1)):
                found |= {f"training_{name}": training[k], f"validation_{name}": validation[k]}
                found[f"test_{name}"] = 1.5 * training[k]
            curve = np.stack([epoch, training, validation, epoch_s * epoch], axis=1)
            folds[network].append({**found, "curve": curve.tolist()})
    cohort = {"n_patients": 70, "n_development": 57, "n_test": 13, "n_nodes": 14}
    cohort |= {"n_states_development": 6270, "n_states_test": 1430}
    return {
        "folds": folds,
        "settings": dict.fromkeys(lengths, "made-up settings"),
        "cohort": cohort,
        "hardware": "2 cores of a made-up processor",
    }


def some_errors(rng, runs):
    base = {"default": 0.006, "paper": 0.02, "full": 0.03, "coarse": 0.012, "mean curve": 0.04, "random": 0.09}
    methods = {}
    for method, error in base.items():
        methods[method] = {"per_fold": {}}
        for fold in runs.get(method, [1]):
            sizes = error * np.array([1.2, 0.5, 0.9, 1.1, 1.3]) * rng.normal(1, 0.05, 5)
            by_size = dict(zip("01234", sizes.tolist(), strict=True))
            methods[method]["per_fold"][str(fold)] = {**by_size, "all": float(sizes.mean())}
    folds = {m: {k: f["all"] for k, f in own["per_fold"].items()} for m, own in methods.items()}
    return {
        "methods": methods,
        "explained_variance": {m: 1 - e / 0.05 for m, e in base.items()},
        "label_variance": {**dict.fromkeys("01234", 0.05), "all": 0.05},
        "runs_only": folds,
    }


def a_curve(rng, noise=0.0):
    angle = np.deg2rad(np.arange(0, 360, 2))
    waves = sum(np.cos(k * angle + rng.uniform(0, 7)) / k for k in (1, 2, 3, 5)) + noise * rng.normal(size=N)
    return (waves - waves.min()) / np.ptp(waves)


def some_examples(rng):
    def pair(noise=0.05):
        teacher = a_curve(rng)
        return teacher.tolist(), np.clip(teacher + noise * a_curve(rng), 0, 1).tolist()

    worst = {}
    for network in ("default", "paper", "full"):
        worst[network] = []
        for n in range(3):
            teacher, predicted = pair(0.3)
            found = {"patient": "virtual-0002", "scenario": 7 + n, "chosen": [20, 111][: n + 1], "mse": 0.05}
            worst[network].append({**found, "teacher": teacher, "predicted": predicted})
    steps, chosen = [], []
    for _ in range(5):
        teacher, predicted = pair()
        best = [int(np.argmax(np.where(np.isin(np.arange(N), chosen), -1, c))) for c in (teacher, predicted)]
        step = {"chosen_teacher": list(chosen), "teacher": teacher, "predicted": predicted}
        steps.append({**step, "next_teacher": best[0], "next_network": best[1]})
        chosen.append(best[0])
    corrected, own = [], [100]
    for _ in range(4):
        curve = a_curve(rng)
        following = int(np.argmax(np.where(np.isin(np.arange(N), own), -1, curve)))
        corrected.append({"chosen": list(own), "predicted": curve.tolist(), "next": following})
        own.append(following)
    objectives = {"forced, teacher": 1040.0, "forced, network": 1052.0, "free, teacher": 1000.0}
    about = {"patient": "virtual-0001", "scenario": 3}
    correction = {"forced": 100, "steps": corrected, "beams_teacher": [100, 12, 60, 131, 170], "objectives": objectives}
    return {"worst": worst, "sequence": {**about, "steps": steps}, "correction": {**about, **correction}}


def some_plans(rng, patients, n_scenarios, runs):
    rows = []

    def add(patient, nodes, scenario, method, fold, objective):
        metrics = {m: v * rng.normal(1, 0.01) for m, v in METRICS.items()}
        organs = {
            o: {w: v * rng.normal(1, 0.05) for w, v in zip(("mean", "max"), d, strict=True)} for o, d in ORGANS.items()
        }
        if nodes:
            organs["PTV_46"] = {"mean": 0.78, "max": 1.01 * rng.normal(1, 0.01)}
        beams = rng.choice(N, 5, replace=False).tolist()
        about = {"patient": patient, "nodes": nodes, "scenario": scenario, "method": method, "fold": fold}
        rows.append({**about, "beams": beams, "objective": objective, "metrics": metrics, "organs": organs})

    for patient, nodes in patients:
        for scenario in range(n_scenarios):
            base = rng.uniform(1000, 3000)
            add(patient, nodes, scenario, "column generation", None, base)
            add(patient, nodes, scenario, "equispaced", None, base * (1 + rng.uniform(-0.01, 0.2)))
            for method, mean in EXCESS.items():
                for fold in runs.get(method, [None]):
                    add(patient, nodes, scenario, method, fold, base * (1 + mean * rng.uniform(-0.4, 2.4)))
    return rows


def some_exchanged(rng, plans):
    """The default network's plans, each a little better."""
    own = [row for row in plans if row["method"] == "default"]
    better = rng.uniform(0.98, 1.0, len(own))
    return [
        row | {"method": "default, exchanged", "objective": row["objective"] * share, "normalized": {}}
        for row, share in zip(own, better, strict=True)
    ]


def some_forced(rng, patients, n_scenarios):
    rows = []
    for patient, _ in patients:
        for scenario in range(n_scenarios):
            free = rng.uniform(1000, 3000)
            forced = free * (1 + rng.uniform(0.01, 0.08))
            about = {"patient": patient, "scenario": scenario, "forced": 12, "teacher_free": free}
            rows.append({**about, "teacher_forced": forced, "network_forced": forced * (1 + rng.uniform(-0.01, 0.03))})
    return rows


def some_searches(rng, patients):
    rows = []
    for patient, _ in patients:
        about, base_s = {"patient": patient, "scenario": 0}, rng.uniform(10, 20)
        rows.append({**about, "method": "column generation", "seconds": base_s, "objective": 1000.0, "budget_s": None})
        rows.append({**about, "method": "exchange", "seconds": 2 * base_s, "objective": 990.0, "budget_s": base_s})
        for share in (0.25, 0.5, 1.0):
            found = {
                "seconds": share * base_s + 1,
                "objective": 1000 * (1.002 - 0.01 * share),
                "budget_s": share * base_s,
            }
            rows.append({**about, "method": "guided search", **found})
    return rows


def some_dose(n_rows=80, n_cols=120):
    y, x = np.mgrid[:n_rows, :n_cols] * 3.0
    y, x = y - 120.0, x - 180.0

    def ellipse(at_x, at_y, radius_x, radius_y):
        distance = np.hypot((x - at_x) / radius_x, (y - at_y) / radius_y)
        return np.clip(0.5 - (distance - 1) * min(radius_x, radius_y) / 3, 0, 1)

    contours = {
        "BODY": ellipse(0, 0, 165, 105),
        "PTV_60": ellipse(0, 5, 32, 26),
        "Bladder": ellipse(0, -32, 30, 16),
        "Rectum": ellipse(0, 42, 15, 16),
        "Femur_Head_L": ellipse(90, 0, 22, 22),
        "Femur_Head_R": ellipse(-90, 0, 22, 22),
    }
    ct_hu = -1000 + 1020 * contours["BODY"] + 250 * (contours["Femur_Head_L"] + contours["Femur_Head_R"])
    arrays = {f"contour_{name}": share.astype(np.float32) for name, share in contours.items()}
    arrays |= {"ct_hu": ct_hu, "caption": np.array("virtual-0004, scenario 2, made up")}
    for method, angles in (("teacher", (10, 80, 150, 230, 290)), ("network", (8, 82, 156, 230, 300))):
        across = [x * np.cos(np.deg2rad(a)) + (y - 5) * np.sin(np.deg2rad(a)) for a in angles]
        dose = sum(12.2 / (1 + np.exp((np.abs(c) - 34) / 3)) for c in across) * contours["BODY"]
        arrays[f"dose_{method}"] = dose.astype(np.float32)
        gy = np.arange(0, 70, 0.5)
        for name, share in contours.items():
            above = [100 * float((share * (dose >= d)).sum() / share.sum()) for d in gy]
            arrays[f"dvh_{name}_{method}"] = np.stack([gy, above], axis=1)
    return arrays
