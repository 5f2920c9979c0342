"""Tables of what the package costs, from reports/benchmarks.json, which `make bench` writes; empty
where nothing was measured.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from pandas import DataFrame

from nonequilibrium.bound.bound import bits_per_dim
from replication.pages.findings import Findings, number, with_error
from replication.pages.growth import Growth
from replication.settings.registry import EXPERIMENTS

# The highest that was aimed at, by what is measured; of ratios to the bare network.
AIMS = {"reverse step": 1.02, "training step": 1.02, "bound": 1.02, "reverse chain": 1.5}
SPEED_UPS = {"measuring": 1.7, "training": 1.5}  # the least, of two processes
GAINS = {
    "cifar10": 20,
    "mnist_conv": 50,
    "mnist_dense": 50,
    "dead_leaves": 10,
}  # the least, of the estimator
FACTORS = {"T": "steps T", "pixels": "pixels", "examples": "examples", "parameters": "parameters"}
IMAGES_A_ROW = (
    32  # that a training in a row of the growth's table went through: four steps of eight
)
YEAR = 365.25 * 24 * 3600  # seconds


class Budget(NamedTuple):
    """A published training: parameters, pixels of an image, images seen in all, and what its
    authors say of its time.
    """

    parameters: float
    pixels: int
    images: float
    said: str


PUBLISHED = {  # Ho et al. 2020, appendix B; Kingma et al. 2021, configs/cifar10.py of its program, from which parameters are counted
    "Ho et al. 2020, CIFAR-10": Budget(35.7e6, 32**2, 800_000 * 128, "10.6 hours on a TPU v3-8"),
    "Ho et al. 2020, CelebA-HQ 256×256": Budget(
        114e6, 256**2, 500_000 * 64, "63 hours on a TPU v3-8"
    ),
    "Kingma et al. 2021, CIFAR-10": Budget(
        30e6, 32**2, 10_000_000 * 128, "not said in its program"
    ),
}


def ratio(its: dict, digits: int = 3) -> str:
    """Median with quartiles of a ratio."""
    median, low, high = (number(its[key], digits) for key in ("median", "low", "high"))
    return f"{median} ({low} to {high})"


def parts(found: Findings, part: str) -> dict:
    """What was measured of a part, without the record of how."""
    return {name: its for name, its in found.benchmarks.get(part, {}).items() if name != "record"}


def overheads(found: Findings) -> DataFrame:
    """Cost of a step beside the bare network's, ours and other libraries'."""
    rows = []
    for experiment, tasks in parts(found, "steps").items():
        for task, ways in tasks.items():
            for way, its in ways.items():
                if way == "bare network":
                    continue
                aim = number(AIMS[task], 2) if way == "this package" else ""
                row = {"model": EXPERIMENTS[experiment].title, "work": task, "by": way}
                rows.append(row | {"cost, bare network = 1": ratio(its["ratio"]), "aimed at": aim})
    return DataFrame(rows)


def startup(found: Findings) -> DataFrame:
    """Seconds until a command answers."""
    return DataFrame(
        {
            "program": name,
            "seconds": ratio(its["seconds"], 2),
            "bare Python = 1": ratio(its["ratio"], 1),
        }
        for name, its in parts(found, "startup").items()
    )


def estimators(found: Findings) -> DataFrame:
    """Variance × time of one uniform t an image over that of the package's estimator."""
    rows = []
    for name, its in parts(found, "estimators").items():
        row = {"model": EXPERIMENTS[name].title, "images": str(its["images"])}
        for way, one in its["ways"].items():
            row[f"Monte Carlo error, {way} (bits/pixel)"] = number(one["mc_sd"], 4)
        row["time, one uniform t = 1"] = ratio(its["ways"]["ours"]["ratio"], 2)
        row["variance × time, times better"] = with_error(its["ratio"], its["ratio_se"], 0)
        rows.append(row | {"aimed at": str(GAINS.get(name, ""))})
    return DataFrame(rows)


def thinning(found: Findings, experiment: str) -> DataFrame:
    """What K loses, and the PSNR of posterior samples, by chains of fewer steps, both spacings; for
    all steps K itself.
    """
    its, rows = parts(found, "thinning").get(experiment, {}), dict[int, dict[str, str]]()
    spaced = {"even": "evenly spaced", "optimal": "optimally spaced", "all": "evenly spaced"}

    def put(row: dict, what: str, text: str) -> None:
        rows.setdefault(row["steps"], {"steps": str(row["steps"])})[
            f"{what}, {spaced[row['spacing']]}"
        ] = text

    for row in its.get("K", []):
        loss = with_error(-row["loss"], row["loss_se"], 3)
        put(
            row,
            "K against that of all steps (bits/pixel)",
            number(row["K"], 3) if row["spacing"] == "all" else loss,
        )
    for row in its.get("denoising", []):
        put(row, "PSNR at SNR 1 (dB)", with_error(row["PSNR"], row["PSNR_se"], 2))
    return DataFrame([rows[n] for n in sorted(rows, reverse=True)]).fillna("")


def same_K(found: Findings) -> DataFrame:
    """Steps that the optimal spacing needs for what an even one loses."""
    return DataFrame(
        {
            "model": EXPERIMENTS[name].title,
            "steps, evenly spaced": str(row["even"]),
            "steps for the same K, optimally spaced": number(row["optimal"], 0),
            "ratio": with_error(row["ratio"], row["ratio_se"], 2),
        }
        for name, its in parts(found, "thinning").items()
        for row in its.get("same_K", [])
    )


def growth(found: Findings) -> DataFrame:
    """Fitted exponents, and what ten and a hundred times as much would cost; a training step costs
    the same whatever T is.
    """
    rows = []
    for work, factors in parts(found, "growth").get("work", {}).items():
        for factor, its in factors.items():
            row = {"work": work, "grows with": FACTORS[factor]}
            for cost, name in (("seconds", "time"), ("bytes", "memory")):
                law = Growth(**its["fits"][cost])
                row[f"{name}, exponent"] = with_error(law.exponent, law.se or None, 2)
                row[f"{name}, 10×"], row[f"{name}, 100×"] = (
                    f"{law.times(n):,.3g}×" for n in (10, 100)
                )
            rows.append(row)
    return DataFrame(rows)


def processes(found: Findings) -> DataFrame:
    """How many times sooner two processes of one thread each end than one."""
    return DataFrame(
        {
            "work": work,
            "one process (s)": number(its["one"]["median"], 1),
            "two processes (s)": number(its["two"]["median"], 1),
            "times sooner": ratio(its["speed-up"], 2),
            "aimed at": str(SPEED_UPS[work]),
        }
        for work, its in parts(found, "processes").items()
    )


def tried(found: Findings) -> DataFrame:
    """What a CPU takes in ways that the package does not go."""
    rows = []
    for experiment, tasks in parts(found, "tried").items():
        for task, ways in tasks.items():
            for way, its in ways.items():
                if way == "as it is":
                    continue
                row = {"network": EXPERIMENTS[experiment].title, "work": task, "way": way}
                first = number(its["first"], 0) if "first" in its else ""
                rows.append(
                    row
                    | {
                        "cost, as it is = 1": ratio(its["ratio"], 2),
                        "before the first result (s)": first,
                    }
                )
    return DataFrame(rows)


def training_seconds(found: Findings, parameters: float, pixels: float) -> float:
    """Seconds a training image would take on the machine of the benchmarks, by the laws of
    parameters and of pixels.
    """
    its = parts(found, "growth")
    by_parameters, by_pixels = (
        Growth(**its["work"]["training"][f]["fits"]["seconds"]) for f in ("parameters", "pixels")
    )
    return (
        by_parameters.cost(parameters)
        / IMAGES_A_ROW
        * by_pixels.times(pixels / its["base"]["pixels"])
    )


def budgets(found: Findings) -> DataFrame:
    """What published trainings would take on the machine of the benchmarks."""
    if "work" not in parts(found, "growth"):
        return DataFrame()
    return DataFrame(
        {
            "training": name,
            "parameters": f"{its.parameters / 1e6:.3g} million",
            "images seen": f"{its.images / 1e6:,.0f} million",
            "its authors' time": its.said,
            "years on this machine, by the fitted growth": number(
                its.images * training_seconds(found, its.parameters, its.pixels) / YEAR, 1
            ),
        }
        for name, its in PUBLISHED.items()
    )


LIBRARIES = {"denoising_diffusion_pytorch": "denoising-diffusion-pytorch", "diffusers": "diffusers"}
OURS = {"cifar10": "the paper's kind of network", "cifar10_unet": "our U-Net"}
MINUTES = 30  # of training on two cores, for all


def _ours(found: Findings) -> dict[str, float]:
    """Seconds a step of our own trainings, of those whose curve and number are there."""
    timed = found.benchmarks.get("half_hour", {}).get("ours", {})
    return {
        name: seconds
        for name, seconds in timed.items()
        if name in found.curves and name in found.numbers
    }


def half_hour_curves(found: Findings) -> dict[str, DataFrame]:
    """{training: step, minutes, bits_per_dim} on images set aside from training: ours up to
    MINUTES, and the libraries' that were run.

    Minutes are steps times the seconds of a step, which for all trainings were measured on one
    machine that did nothing else.
    """
    curves, its = {}, found.benchmarks.get("half_hour", {})
    for name, seconds in _ours(found).items():
        curve, sigma = found.curves[name].dropna(), found.numbers[name]["sigma"]
        cost = [bits_per_dim(K, 3, sigma) for K in curve["K_validation"]]
        table = DataFrame(
            {"step": curve["step"], "minutes": curve["step"] * seconds / 60, "bits_per_dim": cost}
        )
        curves[f"ours: {OURS[name]}"] = table[table["minutes"] <= MINUTES]
    for name, title in LIBRARIES.items():
        if name in its:
            curves[f"{title}: its U-Net"] = DataFrame(its[name]["curve"])[
                ["step", "minutes", "bits_per_dim"]
            ]
    return curves


def half_hour(found: Findings) -> DataFrame:
    """What each training reached in half an hour, on images set aside from training, and in how
    many steps.
    """
    its = found.benchmarks.get("half_hour", {})
    parameters = [found.numbers[name]["parameters"] for name in _ours(found)]
    parameters += [its[name]["parameters"] for name in LIBRARIES if name in its]
    return DataFrame(
        {
            "training": training,
            "parameters": f"{size / 1e6:.2f} million",
            "steps": f"{curve['step'].iloc[-1]:,}",
            "bits/dim": number(curve["bits_per_dim"].iloc[-1], 2),
        }
        for (training, curve), size in zip(half_hour_curves(found).items(), parameters, strict=True)
    )


TABLES: dict[str, Callable[..., DataFrame]] = {
    "overheads": overheads,
    "startup": startup,
    "estimators": estimators,
    "thinning": thinning,
    "same_K": same_K,
    "growth": growth,
    "processes": processes,
    "tried": tried,
    "budgets": budgets,
    "half_hour": half_hour,
}


def benchmarks(found: Findings, which: str, *given) -> DataFrame:
    """A table of this module by name."""
    return TABLES[which](found, *given)
