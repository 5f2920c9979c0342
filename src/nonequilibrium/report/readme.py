"""Write the result tables at the top of README.md from reports/metrics, so that no number there is copied by hand.

nonequilibrium readme
"""

from __future__ import annotations

import argparse
import re

from nonequilibrium.files import ROOT, save_atomically
from nonequilibrium.report.findings import Findings, gap_digits, load, number
from nonequilibrium.report.image_tables import histograms

BEGIN, END = "<!-- results -->", "<!-- /results -->"


def _with_error(m: dict, digits: int) -> str:
    return f"**{number(m['K'], digits)} ± {number(m['K_se'], digits)}**"


def toys(found: Findings) -> str:
    """The toys' rows of Table 1, with the limits, and the seeds."""
    names = {
        "swiss_roll": "swiss roll, the paper's 16 units, T = 40",
        "swiss_roll_wide": "swiss roll, 256 units",
        "heartbeat": "binary heartbeat, T = 2000",
    }
    lines = [
        "| data | K, ours (bits) | K, paper | K − L_null, ours | paper | K* − K | true L |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, title in names.items():
        m, digits = found.metrics[name], 4 if name == "heartbeat" else 2
        paper = m["paper"] if name != "swiss_roll_wide" else {}
        paper_K, paper_gain = (number(paper[key], 3).rstrip("0") if paper else "" for key in ("K", "K_minus_L_null"))
        cells = [title, _with_error(m, digits), paper_K, number(m["K_minus_L_null"], 3), paper_gain]
        cells += [
            f"{number(m['gap'], gap_digits(name))} ± {number(m['gap_se'], gap_digits(name))}",
            number(m["limit"]["L_true"], digits),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    if found.seeds:
        roll, beat = (found.seeds[name]["K"] for name in ("swiss_roll", "heartbeat"))
        lines += [
            "",
            f"{len(found.seeds['heartbeat']['runs'])} training seeds: "
            f"swiss roll {number(roll['mean'], 2)} ± {number(roll['std'], 2)}, "
            f"from {number(roll['min'], 2)} to {number(roll['max'], 2)}; "
            f"heartbeat {number(beat['mean'], 4)} ± {number(beat['std'], 4)}.",
        ]
    return "\n".join(lines)


def images(found: Findings) -> str:
    """K of the image models beside the paper's, and the Parzen estimate."""
    m = found.images
    names = {
        "cifar10_cpu": ("CIFAR-10, half an hour of training on two CPU cores", "5.4 ± 0.2 (4.20)"),
        "mnist": ("MNIST, two dense networks (the paper's path)", "not given"),
        "mnist_sharp": ("MNIST, two dense networks, 1×1 layers at all noise", "not given"),
        "mnist_conv": ("MNIST, convolutional variant", "not given"),
    }
    lines = [
        "| data, official test set | K, ours (bits/pixel) | bits/dim | K, paper (bits/dim) | K − L_null, ours |",
        "|---|---|---|---|---|",
    ]
    for name, (title, paper) in names.items():
        if name in m:
            cells = [title, _with_error(m[name], 3), f"**{m[name]['bits_per_dim']:.3f}**", paper]
            lines.append("| " + " | ".join([*cells, number(m[name]["K_minus_L_null"], 2)]) + " |")
    for data, title in {"mnist": "MNIST", "cifar10": "CIFAR-10"}.items():
        if entries := histograms(found, data):
            each = "; ".join(f"{name} {entry['bits_per_dim']:.3f}" for name, entry in entries.items())
            lines += [
                "",
                f"What tables of counts without a network need for {title}'s test images, in bits/dim: {each}.",
            ]
    if "K_se_blocks" in m.get("mnist", {}):
        lines += [
            "",
            "The errors take test images for independent. MNIST's test file is ordered, and the means of 50 contiguous blocks give "
            f"± {number(m['mnist']['K_se_blocks'], 3)} for K of the first row in place of ± {number(m['mnist']['K_se'], 3)}, and "
            f"± {m['mnist']['parzen']['diffusion (ours)']['se_blocks']:.1f} for its window below.",
        ]
    if "cifar10_modern" in m:
        modern = m["cifar10_modern"]
        lines += [
            "",
            f"Apart from the replication, a U-Net of {modern['parameters'] / 1e6:.1f} million parameters under the same kernels and "
            f"bound, trained on a CPU, on CIFAR-10's test images: {_with_error(modern, 3)} bits/pixel, "
            f"**{modern['bits_per_dim']:.3f}** bits/dim.",
        ]
    if "mnist" in m:
        keys = "diffusion (ours)", "diffusion (ours), 1×1 layers at all noise", "training images (ours)"
        ours, sharp, training = (m["mnist"]["parzen"][key] for key in keys)
        lines += [
            "",
            f"MNIST's Parzen window (Table 2) with {m['mnist']['n_samples']:,} samples: **{ours['mean']:.0f} ± {ours['se']:.1f}** "
            f"bits, with 1×1 layers at all noise {sharp['mean']:.0f} ± {sharp['se']:.1f}, the paper 317 ± 2.7; training images as "
            f"samples, the calibration, {training['mean']:.0f} ± {training['se']:.1f}, in the paper 349 ± 3.3. "
            "Full models were compared on these test digits when the networks were chosen (299, then 333). Halves of one set of "
            "samples differ by 2.6 bits, which no error here contains.",
        ]
    return "\n".join(lines)


def arguments(parser: argparse.ArgumentParser) -> None:
    """``nonequilibrium readme`` takes no words."""


def run(_: argparse.Namespace) -> None:
    """Write the tables between the two marks in README.md."""
    found = load(ROOT / "reports")
    path = ROOT / "README.md"
    tables = f"{BEGIN}\n{toys(found)}\n\n{images(found)}\n{END}"
    text = re.sub(f"{BEGIN}.*{END}", lambda _: tables, path.read_text(encoding="utf-8"), flags=re.S)
    save_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
