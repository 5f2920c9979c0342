"""A folder as the pipeline leaves it, with invented numbers: what the tests of tables, words and
README read.
"""

import json

import pandas as pd
import torch

from replication.files import ROOT
from replication.measure.measured import Measured
from replication.pages.findings import Findings, load
from replication.settings.registry import EXPERIMENTS

SCORE = {"se": 3.0, "se_blocks": 6.0, "sigma": 0.17}
HEARTBEAT = {
    "n_samples": 100,
    "valid": 0.9,
    "valid_ceiling": 0.95,
    "offsets": [20] * 5,
    "offsets_p_value": 0.5,
}
AVERAGES = {
    "T": 50,
    "K_star": -3.5,
    "L_true": -2.3,
    "averages": [{"trajectories": 1, "mean": -3.4, "se": 0.1}],
}
CHAIN = {
    "T": 1000,
    "K_star": -2.4,
    "log_p": -2.35,
    "L_true": -2.32,
    "mean_1": -2.4,
    "se_1": 0.01,
    "spread_1": 2.0,
}
THEORY = {
    "jarzynski": {"heartbeat": AVERAGES | {"log_p": -2.7}, "swiss_roll": AVERAGES},
    "chains": [CHAIN | {"mean_16": -2.35, "se_16": 0.01}],
}
GIVEN = {
    "evidence": "bit 3 is one",
    "way": "constant r",
    "total_variation": 0.4,
    "among_valid": None,
    "valid": 0.0,
}
POSTERIORS = {
    "row": [{"correlation": 0.8, "T": 50, "way": "constant r", "KL": 0.23}],
    "bits": [GIVEN],
}


def numbers(name: str, K: float) -> dict:
    """The contract of reports/metrics for one experiment."""
    its = EXPERIMENTS[name]
    found = {
        "experiment": name,
        "unit": its.unit,
        "K": K,
        "K_se": 0.01,
        "K_mc_se": 0.005,
        "K_minus_L_null": K + 2,
        "n_heldout": 4,
    }
    if not its.images:
        return (
            found
            | {"limit": {"K_star": K + 1, "L_true": K + 2}, "gap": 1.0, "gap_se": 0.1}
            | HEARTBEAT
        )
    found |= {
        "K_se_blocks": 0.02,
        "bits_per_dim": 8 - K,
        "bits_per_dim_se": 0.01,
        "sigma": 64.0,
        "n_steps": 1000,
    }
    found |= {
        "parameters": 1000,
        "weights_sha256": name,
        "thin_steps": 45,
        "K_thinned": K - 0.5,
        "K_same_images": K,
    }
    found |= {"thinning_loss": 0.5, "thinning_loss_se": 0.01}
    if "histograms" in its.parts:
        found["histograms"] = {"counts": {"bits_per_dim": 4.0, "se": 0.01, "se_blocks": 0.02}}
    if its.data == "mnist":
        found["parzen"] = {"diffusion (ours)": {"mean": 100 * K} | SCORE}
    if name == "mnist_dense":
        noised = "training images, noised to σ = 1 and denoised"
        found["parzen"] |= {
            "training images (ours)": {"mean": 348.0} | SCORE,
            noised: {"mean": 365.0} | SCORE,
        }
        found["noised_to"] = {noised: 1}
    if its.data == "dead_leaves":
        found |= {
            "mcgsm": K - 0.1,
            "mcgsm_se": 0.01,
            "limit": K + 1,
            "gaussian": {"independent": K - 3},
            "paper": {},
        }
        found |= {
            "margin_over_mcgsm": 0.1,
            "margin_se": 0.01,
            "K_64": K,
            "K_64_minus_K": 0.01,
            "K_64_minus_K_se": 0.02,
            "parameters": 9,
        }
        found |= {
            "limit_of_borders": K + 0.4,
            "limit_of_borders_se": 0.01,
            "leaf_pixels": 57.0,
            "disc_bits": 14.0,
            "draws": 1,
        }
        found |= {
            "smallest": 2.0,
            "largest": 128.0,
            "noise": 0.02,
            "size": 256,
            "flat": {"data": 0.5, "model": 0.4},
        }
        found["mcgsm_sizes"] = [
            {"components": k, "scales": 8, "features": 60, "bits_per_pixel": K, "se": 0.01}
            for k in (8, 16)
        ]
    if name == "bark":
        found |= {
            "source": "photographs",
            "title": "two photographs",
            "L_null": K - 2,
            "K_each": [K, K],
            "n_units": 40,
        }
        found |= {"error_unit": "squares of 64×64 pixels", "paper": {}}
        row = {"PSNR": 11.0, "spectrum": 2.5, "gradients": 1.5}
        found["holes"] = [
            {"method": "one sample, constant r"} | row,
            {"method": "other places", **row, "PSNR": None},
        ]
    if name == "cifar10":
        found["estimators"] = [
            {"estimator": which, "mc_se": se}
            for which, se in (("uniform t", 0.2), ("stratified", 0.2), ("t by size", 0.1))
        ]
        row = {"method": "one sample", "PSNR": 12.0, "PSNR_se": 0.1, "SSIM": 0.5, "SSIM_se": 0.01}
        found["posteriors"] = {"inpainting": [row]}
    if name == "cifar10_unet":
        row = {
            "method": "one sample, through",
            "PSNR": 13.0,
            "PSNR_se": 0.1,
            "SSIM": 0.6,
            "SSIM_se": 0.01,
        }
        found |= {"posteriors": {"inpainting": [row]}, "n_posterior": 4, "posterior_samples": 2}
        gain = {"mean": 0.5, "se": 0.1}
        found["gain_over_biharmonic"] = {
            hole: {"PSNR": gain, "SSIM": gain} for hole in ("centre", "right half")
        }
    return found


RESTORED = {
    "method": "one sample",
    "n": 4,
    "PSNR": 12.0,
    "PSNR_se": 0.1,
    "SSIM": 0.5,
    "SSIM_se": 0.01,
    "spectrum": 2.0,
}
GAINED = {"trajectories": 10, "gain": 0.01, "se": 0.001, "low": 0.008, "high": 0.012}
RESTORATIONS = {
    "classes": {
        "rows": [{"samples": "guided", "wanted": 0.8, "wanted_se": 0.02, "sure": 0.7, "n": 100}]
    },
    "averages": {"mnist_dense": {"T": 100, "K": 4.0, "rows": [GAINED]}},
    "models": {"cifar10_unet": "U-Net"},
    "cifar10_unet": {"tasks": {"denoising, SNR 1": {"rows": [RESTORED]}}},
}
PAIR = {"way": "constant r", "T": 50, "own_KL": 0.01}
POSTERIORS |= {
    "particles": {"pair": {"rows": [PAIR | {"particles": n, "KL": 0.3 / n} for n in (1, 64)]}}
}
ROLL = {
    "schedule": "even in log SNR",
    "K_star": 3.4,
    "K_star_se": 0.1,
    "K_fixed": -3.7,
    "K_learned": -2.5,
}
BEATS = {"T": 50, "inverse": -3.5, "small_first": -2.43, "best": -2.42}
PARTED = {
    "what": "mean",
    "data": "swiss roll",
    "here": "of q",
    "there": "(65)",
    "K": -3.7,
    "K_there": -4.0,
}
THEORY |= {
    "schedules": {"swiss_roll": [ROLL], "heartbeat": [BEATS]},
    "differences": {"rows": [PARTED]},
}


def write(folder) -> Findings:
    """Write ``folder``/reports and ``folder``/models, and read them. K of the experiments is 3,
    3.5, 4, …
    """
    reports, models = folder / "reports", folder / "models"
    for number, name in enumerate(EXPERIMENTS):
        K = 3 + number / 2
        arrays = {"K_per_example": K + torch.arange(4.0)} if EXPERIMENTS[name].images else {}
        Measured(numbers(name, K), {}, arrays).save(reports, name)
        curve = {"step": [0, 10], "K": [0, K], "seconds": [0, 60], "K_validation": [0, K]}
        texts = {
            models / f"{name}.json": {
                "sha256": name,
                "commit": None,
                "device": "cpu",
                "seconds": 60.0,
            }
        }
        texts[models / f"{name}.json"]["params"] = {
            "seed": 0,
            "train_steps": 10,
            "pixel_layers": 2,
            "pixel_units": 64,
            "dense_units": 128,
            "dense_channels": 4,
            "starts": 6,
            "batch": 32,
            "conv_layers": 4,
            "conv_channels": 48,
        }
        record = {
            "command": f"dvc repro measure@{name}",
            "commit": "abc",
            "seed": 7,
            "seconds": 1.0,
        }
        texts[reports / f"provenance/measure_{name}.json"] = record
        for path, content in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content), encoding="utf-8")
        (reports / "plots").mkdir(exist_ok=True)
        pd.DataFrame(curve).to_csv(reports / "plots" / f"{name}_training.csv", index=False)
    for name, content in {
        "theory": THEORY,
        "posteriors": POSTERIORS,
        "restorations": RESTORATIONS,
    }.items():
        (reports / "metrics" / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    runs = {
        "runs": [{"seed": 0, "K": 2.0}, {"seed": 1, "K": 3.0}],
        "K": {"mean": 2.5, "std": 0.7, "min": 2.0, "max": 3.0},
    }
    (reports / "metrics" / "seeds.json").write_text(
        json.dumps({"heartbeat": runs}), encoding="utf-8"
    )
    # The committed benchmarks, as no experiment changes them.
    (reports / "benchmarks.json").write_bytes((ROOT / "reports" / "benchmarks.json").read_bytes())
    return load(reports)
