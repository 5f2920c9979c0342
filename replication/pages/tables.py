"""Every table of the report and of README.md, once: each function returns a table of texts, empty
where nothing was measured.
"""

from __future__ import annotations

import math

from pandas import DataFrame

from replication.pages.benchmark_tables import benchmarks as benchmarks
from replication.pages.cost_tables import costs as costs
from replication.pages.findings import MINUS, Findings, number, read_json, with_error
from replication.pages.restoration_tables import (
    restorations as restorations,  # prose finds all tables here
)
from replication.pages.theory_tables import averages as averages
from replication.pages.theory_tables import bit_posteriors as bit_posteriors
from replication.pages.theory_tables import chains as chains
from replication.pages.theory_tables import differences as differences
from replication.pages.theory_tables import equations as equations
from replication.pages.theory_tables import row_posteriors as row_posteriors
from replication.pages.theory_tables import schedule_limits as schedule_limits
from replication.pages.theory_tables import weighted_posteriors as weighted_posteriors
from replication.settings import paper
from replication.settings.registry import EXPERIMENTS, Experiment

STAND_INS = ("photographs", "textures")  # for the paper's bark
OWN = (
    "diffusion (ours)",
    "training images (ours)",
)  # the Parzen scores that stand beside the paper's


def digits(its: Experiment) -> int:
    """Digits after the point of K: as many as its error has a use for."""
    return 3 if its.images else 4 if its.data == "heartbeat" else 2


def printed(value: float, error: float | None = None) -> str:
    """A number as the paper prints it."""
    return f"{value:g}".translate(MINUS) + ("" if error is None else f" ± {error:g}")


def table_1(found: Findings) -> DataFrame:
    """The paper's Table 1, a row a data set: its K, ours, and what became of the row."""
    columns = (
        "data",
        "bits per",
        "K, paper",
        "K, ours",
        "K − L_null, paper",
        "K − L_null, ours",
        "status",
    )
    rows = []
    for data, theirs in (paper.TABLE_1 | {"mnist": {}}).items():
        name = next((name for name, its in EXPERIMENTS.items() if its.data == data), "")
        its, row = EXPERIMENTS.get(name), dict.fromkeys(columns, "")
        if its:
            row |= {
                "data": its.title,
                "bits per": its.unit.removeprefix("bits per "),
                "status": "not measured yet",
            }
        if theirs:
            error = theirs.get("K_se")
            row["K, paper"], row["K − L_null, paper"] = (
                printed(theirs[key], error) for key in ("K", "K_minus_L_null")
            )
        m = found.numbers.get(name)
        if its and m:
            above = m["K"] - theirs.get("K", 0)
            row["K, ours"] = with_error(m["K"], m["K_se"], digits(its))
            row["K − L_null, ours"] = number(m["K_minus_L_null"], 3)
            row["status"] = (
                f"{number(abs(above), 2)} {'above' if above > 0 else 'below'} the paper's K"
            )
            row["status"] = row["status"] if theirs else "the paper gives no K; see Table 2"
            row["status"] = (
                "images of our own; see Table 2" if name == "dead_leaves" else row["status"]
            )
        rows.append(row)
        if (
            its and m and m.get("source") in STAND_INS
        ):  # a bound of other pictures is set beside nothing
            rows[-1] = row | {
                "K, ours": "",
                "K − L_null, ours": "",
                "status": "the paper's pictures could not be had",
            }
            rows.append(
                row | dict.fromkeys(("K, paper", "K − L_null, paper"), "") | {"data": m["title"]}
            )
            rows[-1]["status"] = "stands in for the row above; other pictures, not to be compared"
    return DataFrame(rows)


def pictures(found: Findings, name: str) -> DataFrame:
    """K of a model of pictures of any size, and which pictures they are."""
    if (m := found.numbers.get(name)) is None:
        return DataFrame()
    row = {"pictures": m["title"], "K (bits/pixel)": with_error(m["K"], m["K_se"], 3)}
    row |= {"of that Monte Carlo": number(m["K_mc_se"], 4), "L_null": number(m["L_null"], 3)}
    row |= {"K − L_null": number(m["K_minus_L_null"], 3)}
    row |= {"bits/dim": with_error(m["bits_per_dim"], m["bits_per_dim_se"], 3)}
    row |= {"held out": f"{m['n_heldout']}, in {m['n_units']} {m['error_unit']}"}
    return DataFrame([row | {"K of each": ", ".join(number(K, 3) for K in m["K_each"][:10])}])


def holes(found: Findings, name: str) -> DataFrame:
    """How near each way of filling a hole comes to what was there, averaged over the pictures of
    figure 5.
    """
    rows = found.numbers.get(name, {}).get("holes", [])
    return DataFrame(
        {
            "method": row["method"],
            "PSNR (dB)": "" if row["PSNR"] is None else number(row["PSNR"], 2),
            "spectrum (dB)": number(row["spectrum"], 2),
            "gradients (levels)": number(row["gradients"], 2),
        }
        for row in rows
    )


def limits(found: Findings) -> DataFrame:
    """How far each toy is from the best that its model class can reach, and from the true L; errors
    where these are no exact sums.
    """
    rows = []
    for name, m in found.numbers.items():
        if isinstance(m.get("limit"), dict):  # of a law that is known
            its, fine = (
                EXPERIMENTS[name],
                6 if name == "heartbeat" else 3,
            )  # digits with which the gap's error shows
            limit, n = m["limit"], digits(its)
            row = {"experiment": its.title, "bits per": its.unit.removeprefix("bits per ")}
            row |= {
                "K": with_error(m["K"], m["K_se"], n),
                "K*": with_error(limit["K_star"], limit.get("K_star_se"), n),
            }
            row["K* − K, measured directly"] = with_error(m["gap"], m["gap_se"], fine)
            rows.append(row | {"true L": with_error(limit["L_true"], limit.get("L_true_se"), n)})
    return DataFrame(rows)


def seeds(found: Findings) -> DataFrame:
    """K of several training seeds, a row an experiment."""
    rows = []
    for name, entry in found.seeds.items():
        n, K = digits(EXPERIMENTS[name]), entry["K"]
        each = {f"seed {run['seed']}": number(run["K"], n) for run in entry["runs"]}
        spread = with_error(K["mean"], K["std"], n)
        rows.append({"experiment": EXPERIMENTS[name].title, **each, "mean ± spread": spread})
    return DataFrame(rows)


def images(found: Findings, data: str, replication: bool = True) -> DataFrame:
    """K of the models of one image data set and, for the replication, the paper's and histograms
    without a network.
    """
    rows: list[dict] = []
    histograms: dict = {}
    for name, its in EXPERIMENTS.items():
        if (
            its.data != data
            or its.replication is not replication
            or (m := found.numbers.get(name)) is None
        ):
            continue
        histograms |= m.get("histograms", {})
        old = " (measured with other weights than those in models/)" if found.stale(name) else ""
        row = {"model": its.title + old, "K (bits/pixel)": with_error(m["K"], m["K_se"], 3)}
        row["± in blocks"] = number(m["K_se_blocks"], 3) if "K_se_blocks" in m else ""
        row["of that Monte Carlo"] = number(m["K_mc_se"], 4)
        row["K − L_null"] = number(m["K_minus_L_null"], 3)
        row["bits/dim"] = with_error(m["bits_per_dim"], m["bits_per_dim_se"], 3)
        rows.append(
            row | {"held-out images": f"{m['n_heldout']:,}", "parameters": f"{m['parameters']:,}"}
        )
    if rows and replication:
        if theirs := paper.TABLE_1.get(data):
            row = {"model": "the paper", "K (bits/pixel)": printed(theirs["K"], theirs["K_se"])}
            row |= {"K − L_null": printed(theirs["K_minus_L_null"], theirs["K_se"])}
            rows.append(
                row | {"bits/dim": number(math.log2(paper.CIFAR10_SIGMA) - theirs["K"] / 3, 2)}
            )
        for which, entry in histograms.items():
            bits = with_error(entry["bits_per_dim"], entry["se"], 3)
            rows.append({"model": f"{which} (no network)", "bits/dim": bits})
    return DataFrame(rows).fillna("")


def leaves(found: Findings) -> list[tuple]:
    """The half of Table 2 on dead leaves: rows (data, model, the paper's, ours, status). The
    paper's images are other ones.
    """
    data, m = "dead leaves, bits/pixel", found.numbers.get("dead_leaves")
    theirs = {"MCGSM": paper.MCGSM_DEAD_LEAVES, "diffusion": paper.TABLE_1["dead_leaves"]["K"]}
    if m is None:
        return [(data, name, printed(K), None, "not measured yet") for name, K in theirs.items()]
    ours = {"MCGSM": (m["mcgsm"], m["mcgsm_se"]), "diffusion": (m["K"], m["K_se"])}
    status = {
        "MCGSM": "images of our own, chosen so that it is near the paper's",
        "diffusion": "the same images",
    }
    rows = [
        (
            data,
            name,
            printed(K),
            dict(zip(("mean", "se"), ours[name], strict=True)) | {"digits": 3},
            status[name],
        )
        for name, K in theirs.items()
    ]
    others = {f"Gaussian, {name}": value for name, value in m["gaussian"].items()}
    for name, value in (others | {"limit, from the noise": m["limit"]}).items():
        rows.append((data, name, "", {"mean": value, "se": None, "digits": 3}, "not in the paper"))
    return rows


def table_2(found: Findings) -> DataFrame:
    """The paper's Table 2, and what else was scored by the Parzen window."""
    rows = leaves(found)
    m = found.numbers.get("mnist_dense", {})
    ours = {name: e for name, e in m.get("parzen", {}).items() if name not in OWN}
    for name, theirs in paper.PARZEN.items():
        own, which = name.endswith("(paper)"), name.removesuffix(" (paper)")
        entry = m.get("parzen", {}).get(f"{which} (ours)") if own else None
        status = (
            "quoted by the paper"
            if not own
            else "not measured yet"
            if entry is None
            else "measured"
        )
        rows.append(("MNIST, bits", which, printed(*theirs), entry, status))
    if "parzen" in (other := found.numbers.get("mnist_dense_1x1", {})):
        ours = {"diffusion, one network for every t": other["parzen"][OWN[0]]} | ours
    rows += [("MNIST, bits", name, "", entry, "not in the paper") for name, entry in ours.items()]
    return DataFrame(
        {
            "data": data,
            "model or samples": name,
            "paper": theirs,
            "ours": with_error(e["mean"], e["se"], e.get("digits", 1)) if e else "",
            "± in blocks": number(e["se_blocks"], 1) if e and "se_blocks" in e else "",
            "status": status,
        }
        for data, name, theirs, e, status in rows
    )


def estimators(found: Findings, name: str) -> DataFrame:
    """Monte Carlo error of four estimators of K at equal cost."""
    entries = found.numbers.get(name, {}).get("estimators", [])
    return DataFrame(
        {
            "estimator, two steps t an image": e["estimator"],
            "Monte Carlo error (bits/pixel)": number(e["mc_se"], 4),
            "as good as so many times the work": number((entries[0]["mc_se"] / e["mc_se"]) ** 2, 1),
        }
        for e in entries
    )


def posteriors(found: Findings, name: str) -> DataFrame:
    """PSNR and SSIM of posterior samples, of their mean and of other methods."""
    return DataFrame(
        {
            "task": task,
            "method": e["method"],
            "PSNR (dB)": with_error(e["PSNR"], e["PSNR_se"], 2),
            "SSIM": with_error(e["SSIM"], e["SSIM_se"], 3),
        }
        for task, rows in found.numbers.get(name, {}).get("posteriors", {}).items()
        for e in rows
    )


def provenance(found: Findings) -> DataFrame:
    """Command, commit, seed, time and device by which weights and numbers were made."""
    rows = []
    for name in EXPERIMENTS:
        if card := found.cards.get(name):
            on_cpu = card["device"] == "cpu"
            command = (
                f"dvc repro --force train@{name}"
                if on_cpu
                else f"nonequilibrium train {name} --device cuda"
            )
            rows.append(card | {"command": command, "seed": card["params"]["seed"]})
        rows += [{"device": "cpu"} | record] if (record := found.records.get(name)) else []
    if record := read_json(found.folder / "provenance" / "restorations.json"):
        rows.append({"device": "cpu"} | record)
    keys = "command", "commit", "seed", "seconds", "device"
    return DataFrame(
        {key: "" if row[key] is None else str(row[key]) for key in keys} for row in rows
    )


def claims(found: Findings) -> list[dict]:
    """Rows for ``figures.claim_result_limit``: the paper's K, ours and the limits, a panel a toy
    that was measured.
    """
    panels: dict = {}
    for name, m in found.numbers.items():
        if isinstance(m.get("limit"), dict):  # of a law that is known
            its = EXPERIMENTS[name]
            first = {"title": f"{its.data.replace('_', ' ').capitalize()} ({its.unit})"}
            panel = panels.setdefault(
                its.data, first | {"points": [("paper", its.paper["K"], 0, "paper")]}
            )
            panel["points"] += [
                (its.title, m["K"], m["K_se"], "ours"),
                ("its K*", m["limit"]["K_star"], 0, "limit"),
            ]
            panel["L"] = ("true L", m["limit"]["L_true"], 0, "limit")
    return [
        {"title": panel["title"], "points": [*panel["points"], panel["L"]]}
        for panel in panels.values()
    ]


def toy_curves(found: Findings) -> dict[str, DataFrame]:
    """Training curves of the toys by title, for ``figures.training_curves``."""
    return {
        EXPERIMENTS[name].title: curve
        for name, curve in found.curves.items()
        if not EXPERIMENTS[name].images
    }
