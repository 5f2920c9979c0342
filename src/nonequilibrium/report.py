"""Tables of the report, made from the files that the other stages wrote."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from IPython.display import HTML, Image, display

from nonequilibrium.fetch import sha256
from nonequilibrium.parameters import ROOT

TITLES = {
    "swiss_roll": "Swiss roll, the paper's 16 units",
    "swiss_roll_wide": "Swiss roll, wide network",
    "heartbeat": "Binary heartbeat",
}
IMAGES = {
    "mnist": "MNIST, dense network (the paper's path)",
    "mnist_conv": "MNIST, convolutional variant",
    "cifar10_cpu": "CIFAR-10, trained on two CPU cores",
}
DATA_OF = {"mnist": "mnist", "mnist_conv": "mnist", "cifar10_cpu": "cifar10"}
MINUS = str.maketrans("-", "−")


@dataclass
class Findings:
    """What is in reports/: metrics by experiment, seeds, provenance by stage, and what is missing.

    absent: data sets that are not on this machine, so that the numbers about them are those committed with the code.
    """

    folder: Path
    metrics: dict = field(default_factory=dict)
    seeds: dict = field(default_factory=dict)
    provenance: dict = field(default_factory=dict)
    missing: list = field(default_factory=list)
    images: dict = field(default_factory=dict)
    choices: dict = field(default_factory=dict)
    absent: list = field(default_factory=list)


def load(folder: Path) -> Findings:
    """Read everything under ``folder`` (the reports directory); a file that is not there is named in ``missing``."""
    found = Findings(folder)
    for name in TITLES:
        path = folder / "metrics" / f"{name}.json"
        if path.exists():
            found.metrics[name] = json.loads(path.read_text())
        else:
            found.missing.append(TITLES[name])
    seeds = folder / "metrics" / "seeds.json"
    if seeds.exists():
        found.seeds = json.loads(seeds.read_text())
    for name in IMAGES:
        path = folder / "metrics" / f"{name}.json"
        if path.exists():
            found.images[name] = json.loads(path.read_text())
        choices = folder / "metrics" / f"{name}_choices.json"
        if choices.exists():
            found.choices[name] = json.loads(choices.read_text())
    for data in dict.fromkeys(DATA_OF.values()):
        record = folder / "data" / f"{data}.json"
        if not record.exists() or not json.loads(record.read_text())["present"]:
            found.absent.append(data)
    for path in sorted((folder / "provenance").glob("*.json")):
        found.provenance[path.stem] = json.loads(path.read_text())
    return found


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".translate(MINUS)


def _table(rows: list[dict]) -> HTML:
    return HTML(pd.DataFrame(rows).to_html(index=False, border=0, justify="left"))


def table_1(found: Findings) -> HTML:
    """Our K, the paper's and the limits, a row an experiment."""
    rows = []
    for name, m in found.metrics.items():
        digits = 4 if name == "heartbeat" else 2
        rows.append(
            {
                "data": TITLES[name],
                "K (ours)": f"{_number(m['K'], digits)} ± {_number(m['K_se'], digits)}",
                "K (paper)": _number(m["paper"]["K"], 3 if name == "heartbeat" else 2),
                "K − L_null (ours)": _number(m["K_minus_L_null"], 3),
                "K − L_null (paper)": _number(m["paper"]["K_minus_L_null"], 3),
                "K* (limit)": _number(m["limit"]["K_star"], digits),
                "K* − K, measured directly": f"{_number(m['gap'], digits)} ± {_number(m['gap_se'], digits)}",
                "true L": _number(m["limit"]["L_true"], digits),
                "unit": m["unit"],
            }
        )
    return _table(rows)


def claims(found: Findings) -> list[dict]:
    """Rows for ``figures.claim_result_limit``."""
    m = found.metrics
    roll, wide, beat = m["swiss_roll"], m["swiss_roll_wide"], m["heartbeat"]
    return [
        {
            "title": "Swiss roll (bits per point)",
            "points": [
                ("paper", roll["paper"]["K"], 0, "paper"),
                ("ours, 16 units", roll["K"], roll["K_se"], "ours"),
                ("K*, its schedule", roll["limit"]["K_star"], 0, "limit"),
                (f"ours, {wide['units']} units", wide["K"], wide["K_se"], "ours"),
                ("K*, its schedule", wide["limit"]["K_star"], 0, "limit"),
                ("true L", roll["limit"]["L_true"], 0, "limit"),
            ],
        },
        {
            "title": "Binary heartbeat (bits per sequence)",
            "points": [
                ("paper", beat["paper"]["K"], 0, "paper"),
                ("ours", beat["K"], beat["K_se"], "ours"),
                (f"K*, T = {beat['n_steps']}", beat["limit"]["K_star"], 0, "limit"),
                ("true L", beat["limit"]["L_true"], 0, "limit"),
            ],
        },
    ]


def seeds_table(found: Findings) -> HTML:
    """K of five training seeds, a row an experiment."""
    rows = []
    for name, entry in found.seeds.items():
        digits = 4 if name == "heartbeat" else 2
        row = {"data": TITLES[name]}
        row |= {f"seed {run['seed']}": _number(run["K"], digits) for run in entry["runs"]}
        row["mean ± spread"] = f"{_number(entry['K']['mean'], digits)} ± {_number(entry['K']['std'], digits)}"
        rows.append(row)
    return (
        _table(rows) if rows else HTML("<p>Not measured yet: <code>dvc repro --force --single-item seeds</code>.</p>")
    )


def heartbeat_samples(found: Findings) -> HTML:
    """How many true samples are valid, against the ceiling, and the test of the offsets."""
    m = found.metrics.get("heartbeat")
    if m is None:
        return HTML("<p>Not measured yet.</p>")
    return HTML(
        f"<p>Of {m['n_samples']:,} true samples {100 * m['valid']:.2f} % are valid heartbeats; from a perfect x¹ the flips of the "
        f"last step alone allow {100 * m['valid_ceiling']:.2f} %. Offsets 0 to 4 occur {', '.join(map(str, m['offsets']))} times: "
        f"equally often by a chi-square test (p = {m['offsets_p_value']:.2f}).</p>"
    )


def pictures(found: Findings, names: list[str], caption: str) -> None:
    """Show figures that other stages drew, embedded, with a caption; says so where one is missing."""
    for name in names:
        path = found.folder / "figures" / name
        display(Image(filename=str(path)) if path.exists() else HTML(f"<p>{name} has not been drawn yet.</p>"))
    display(HTML(f"<p><i>{caption}</i></p>"))


def training_curves(found: Findings) -> dict[str, pd.DataFrame]:
    """Training curves of the toys by title: columns step, K."""
    return {TITLES[name]: curve for name in TITLES if (curve := training_curve(found, name)) is not None}


def training_curve(found: Findings, name: str) -> pd.DataFrame | None:
    """The training curve of one experiment, None if it was not trained."""
    path = found.folder / "plots" / f"{name}_training.csv"
    return pd.read_csv(path) if path.exists() else None


def provenance_table(found: Findings) -> HTML:
    """Command, commit, seed and time of every stage."""
    rows = [
        {
            "stage": name,
            "command": p["command"],
            "commit": p["commit"] or "",
            "seed": p["seed"],
            "seconds": p["seconds"],
        }
        for name, p in found.provenance.items()
    ]
    return _table(rows) if rows else HTML("<p>No stage has run here yet.</p>")


def data_note(found: Findings, data: str) -> HTML:
    """Says whether the numbers about a data set were recomputed here, and if not what to do."""
    if data not in found.absent:
        return HTML(f"<p>Measured on this machine with {data} as fetched and verified.</p>")
    return HTML(
        f"<p><b>{data} is not on this machine</b>, so nothing about it was measured here: the figures and numbers of this section "
        "are those committed with the code. <code>make data</code> fetches it, <code>dvc repro</code> then measures.</p>"
    )


def _stale(m: dict, name: str) -> bool:
    """True if the weights have changed since the numbers were measured."""
    weights = ROOT / "models" / f"{name}.safetensors"
    return weights.exists() and m["weights_sha256"] != sha256(weights)


def images_table(found: Findings, data: str) -> HTML:
    """K of the models of one image data set, in bits per pixel and bits per dimension."""
    rows = [
        {
            "model": IMAGES[name] + (" (measured with other weights than those in models/)" if _stale(m, name) else ""),
            "K (bits/pixel)": f"{_number(m['K'], 3)} ± {_number(m['K_se'], 3)}",
            "of that Monte Carlo": _number(m["K_mc_se"], 4),
            "K − L_null": _number(m["K_minus_L_null"], 3),
            "bits/dim": f"{_number(m['bits_per_dim'], 3)} ± {_number(m['bits_per_dim_se'], 3)}",
            "held-out images": f"{m['n_heldout']:,}",
            "parameters": f"{m['parameters']:,}",
        }
        for name, m in found.images.items()
        if DATA_OF[name] == data
    ]
    if not rows:
        return HTML("<p>Not measured yet.</p>")
    if data == "cifar10":
        paper = {
            "K (bits/pixel)": "5.4 ± 0.2",
            "K − L_null": "11.5 ± 0.2",
            "bits/dim": "4.20 (by the arithmetic below)",
        }
        rows.append({"model": "the paper"} | {key: paper.get(key, "") for key in rows[0] if key != "model"})
    return _table(rows)


def unit_note(found: Findings, name: str) -> HTML:
    """Why K = 5.4 bits per pixel is 4.20 bits per dimension, with the arithmetic."""
    m = found.images.get(name)
    if m is None:
        return HTML("<p>Not measured yet.</p>")
    sigma = m["sigma"]
    return HTML(
        f"<p>K counts bits per <i>pixel</i> of data that was divided by σ = {sigma:.2f} (the standard deviation on the 0..255 scale), "
        "and it is a log density: larger is better. Undoing the division costs log₂ σ bits for each of three channels, so the cost in "
        f"the unit of later papers is log₂ σ − K/3: for the paper {math.log2(sigma):.3f} − 5.4/3 = "
        f"<b>{math.log2(sigma) - 1.8:.2f} bits/dim</b>, for ours {math.log2(sigma):.3f} − {m['K']:.3f}/3 = "
        f"<b>{m['bits_per_dim']:.3f} bits/dim</b>. Tables that print 5.40 bits/dim for this paper carry K over as if it were a cost "
        "per dimension; by that reading a better model would get a worse number.</p>"
    )


def estimators_table(found: Findings, name: str) -> HTML:
    """Monte Carlo error of four estimators of K at equal cost."""
    m = found.images.get(name)
    if m is None:
        return HTML("<p>Not measured yet.</p>")
    worst = m["estimators"][0]["mc_se"]
    return _table(
        [
            {
                "estimator, two steps t an image": e["estimator"],
                "Monte Carlo error (bits/pixel)": _number(e["mc_se"], 4),
                "as good as so many times the work": f"{(worst / e['mc_se']) ** 2:.1f}",
            }
            for e in m["estimators"]
        ]
    )


def posteriors_table(found: Findings, name: str) -> HTML:
    """PSNR and SSIM of posterior samples, their mean and other methods."""
    m = found.images.get(name)
    if m is None:
        return HTML("<p>Not measured yet.</p>")
    return _table(
        [
            {
                "task": task,
                "method": row["method"],
                "PSNR (dB)": f"{_number(row['PSNR'], 2)} ± {_number(row['PSNR_se'], 2)}",
                "SSIM": f"{_number(row['SSIM'], 3)} ± {_number(row['SSIM_se'], 3)}",
            }
            for task, rows in m["posteriors"].items()
            for row in rows
        ]
    )


def parzen_table(found: Findings) -> HTML:
    """Table 2's MNIST column: the paper's entries and ours."""
    m = found.images.get("mnist")
    if m is None:
        return HTML("<p>Not measured yet.</p>")
    entries = [(name, e, "paper") for name, e in m["parzen_paper"].items()]
    entries += [(name, e, "measured here") for name, e in m["parzen"].items()]
    return _table(
        [
            {"samples": name, "bits": f"{_number(e['mean'], 1)} ± {_number(e['se'], 1)}", "source": source}
            for name, e, source in entries
        ]
    )


def choices_table(found: Findings, name: str) -> HTML:
    """What each choice is worth: K of short trainings that differ in one thing from the first."""
    if name not in found.choices:
        return HTML(
            f"<p>Not measured yet: <code>python -m nonequilibrium.choices {name}</code> measures it (a quarter of an hour).</p>"
        )
    entry = found.choices[name]
    chosen = entry["rows"][0]["K"]
    return _table(
        [
            {
                "choice": row["choice"],
                "K (bits/pixel)": _number(row["K"], 3),
                "against the choice made": "" if row is entry["rows"][0] else _number(row["K"] - chosen, 3),
                "parameters": f"{row['parameters']:,}",
                "seconds": f"{row['seconds']:.0f}",
            }
            for row in entry["rows"]
        ]
    )
