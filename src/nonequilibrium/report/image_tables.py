"""Tables of the report about the image experiments."""

from __future__ import annotations

import math

from IPython.display import HTML

from nonequilibrium.files import ROOT, sha256
from nonequilibrium.report.findings import DATA_OF, IMAGES, MODERN, Findings, number, training_curve
from nonequilibrium.report.tables import table


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


def images_table(found: Findings, data: str, modern: bool = False) -> HTML:
    """K of the models of one image data set, in bits per pixel and bits per dimension: the replication, or ``modern`` networks."""
    rows = [
        {
            "model": IMAGES[name] + (" (measured with other weights than those in models/)" if _stale(m, name) else ""),
            "K (bits/pixel)": f"{number(m['K'], 3)} ± {number(m['K_se'], 3)}",
            "± in blocks": number(m["K_se_blocks"], 3) if "K_se_blocks" in m else "",
            "of that Monte Carlo": number(m["K_mc_se"], 4),
            "K − L_null": number(m["K_minus_L_null"], 3),
            "bits/dim": f"{number(m['bits_per_dim'], 3)} ± {number(m['bits_per_dim_se'], 3)}",
            "held-out images": f"{m['n_heldout']:,}",
            "parameters": f"{m['parameters']:,}",
        }
        for name, m in found.images.items()
        if DATA_OF[name] == data and (name in MODERN) == modern
    ]
    if not rows:
        return HTML("<p>Not measured yet.</p>")
    if data == "cifar10" and not modern:
        paper = {
            "K (bits/pixel)": "5.4 ± 0.2",
            "K − L_null": "11.5 ± 0.2",
            "bits/dim": "4.20 (by the arithmetic below)",
        }
        rows.append({"model": "the paper"} | {key: paper.get(key, "") for key in rows[0] if key != "model"})
    if not modern:
        for name, entry in histograms(found, data).items():
            row = {"bits/dim": f"{number(entry['bits_per_dim'], 3)} ± {number(entry['se'], 3)}"}
            rows.append({key: row.get(key, "") for key in rows[0]} | {"model": f"{name} (no network)"})
    return table(rows)


def histograms(found: Findings, data: str) -> dict:
    """Bits per dimension of histograms on the test images of one data set, {name: entry}; empty if not measured."""
    return next(
        (m["histograms"] for name, m in found.images.items() if DATA_OF[name] == data and "histograms" in m), {}
    )


def histograms_note(found: Findings, data: str) -> HTML:
    """Where ours stand among histograms that were counted on the same training images."""
    entries = {name: entry["bits_per_dim"] for name, entry in histograms(found, data).items()}
    if not entries:
        return HTML("<p>Histograms have not been measured yet.</p>")
    ours = {IMAGES[n]: m["bits_per_dim"] for n, m in found.images.items() if DATA_OF[n] == data and n not in MODERN}
    lines = []
    for name, bits in sorted(entries.items(), key=lambda entry: -entry[1]):
        better = [title for title, value in ours.items() if value < bits]
        who = "every model of ours" if len(better) == len(ours) else "; ".join(better) if better else "no model of ours"
        lines.append(f"<li>{name}: {number(bits, 3)} bits/dim; {who} needs fewer.</li>")
    return HTML(
        "<p>The nearest neighbours of these numbers are tables of counts from the training images, without a network, scored on the "
        f"same test images in the same unit:</p><ul>{''.join(lines)}</ul>"
    )


def thinning_note(found: Findings, name: str) -> HTML:
    """What the thinned chain loses on the same images."""
    m = found.images.get(name)
    if m is None or "thinning_loss" not in m:
        return HTML("<p>Not measured yet.</p>")
    steps = m.get("sample_steps", m.get("posterior_steps"))
    return HTML(
        f"<p>The chain thinned to {steps} of {m['n_steps']:,} steps has K = {number(m['K_thinned'], 3)} bits per pixel, the whole "
        f"chain {number(m['K_same_images'], 3)} on the same images: image by image thinning loses {number(m['thinning_loss'], 3)} ± "
        f"{number(m['thinning_loss_se'], 3)}.</p>"
    )


def modern_note(found: Findings) -> HTML:
    """What the U-Net gains over the paper's network on the same images, and what it was trained for."""
    m, curve = found.images.get("cifar10_modern"), training_curve(found, "cifar10_modern")
    if m is None or curve is None:
        return HTML("<p>Not measured yet.</p>")
    last = curve.iloc[-1]
    return HTML(
        f"<p>On the same images, image by image, the U-Net gains <b>{number(m['gain_over_cifar10_cpu'], 3)} ± "
        f"{number(m['gain_over_cifar10_cpu_se'], 3)}</b> bits per pixel ({m['gain_over_cifar10_cpu'] / 3:.3f} bits per dimension) "
        f"over the paper's network. It was trained for {last['step']:,.0f} steps, {last['seconds'] / 60:.0f} minutes on a CPU.</p>"
    )


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
    return table(
        [
            {
                "estimator, two steps t an image": e["estimator"],
                "Monte Carlo error (bits/pixel)": number(e["mc_se"], 4),
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
    return table(
        [
            {
                "task": task,
                "method": row["method"],
                "PSNR (dB)": f"{number(row['PSNR'], 2)} ± {number(row['PSNR_se'], 2)}",
                "SSIM": f"{number(row['SSIM'], 3)} ± {number(row['SSIM_se'], 3)}",
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
    return table(
        [
            {
                "samples": name,
                "bits": f"{number(e['mean'], 1)} ± {number(e['se'], 1)}",
                "± in blocks": number(e["se_blocks"], 1) if "se_blocks" in e else "",
                "source": source,
            }
            for name, e, source in entries
        ]
    )


def parzen_note(found: Findings) -> HTML:
    """Ours beside the paper's, at which noise the Parzen window estimate is lost or won, and what 1×1 layers change."""
    m, sharp = (found.images.get(name) for name in ("mnist", "mnist_sharp"))
    if m is None or sharp is None:
        return HTML("<p>Not measured yet.</p>")
    score = {name: entry["mean"] for name, entry in m["parzen"].items()}
    ours, whole, paper = (
        score["diffusion (ours)"],
        score["training images (ours)"],
        m["parzen_paper"]["diffusion (paper)"]["mean"],
    )
    beside_paper, beside_whole = (
        f"{abs(ours - other):.0f} bits {'above' if ours > other else 'below'}" for other in (paper, whole)
    )
    denoised = "; ".join(f"{score[name]:.0f} from σ = {sigma:g}" for name, sigma in m["noised_to"].items())
    return HTML(
        f"<p>Ours is {beside_paper} the paper's {paper} and {beside_whole} the calibration, {whole:.0f}. Where they are lost or won: "
        f"training images that get noise and are denoised by the chain score {denoised}; from pure noise, as our samples, it is "
        f"{ours:.0f}. What exceeds {whole:.0f} there is blur, which no better sample could earn: smoother strokes are nearer to every "
        "test digit. Our own samples have it too. With 1×1 layers at all noise, "
        f"{score['diffusion (ours), 1×1 layers at all noise']:.0f} bits in place of {ours:.0f} by the window, and K = "
        f"{sharp['K']:.3f} in place of {m['K']:.3f} bits a pixel.</p>"
    )


def choices_table(found: Findings, name: str) -> HTML:
    """What each choice is worth: K (and the Parzen window) of short trainings that differ in one thing from the first."""
    if name not in found.choices:
        return HTML(
            f"<p>Not measured yet: <code>nonequilibrium choices {name}</code> measures it (a quarter of an hour).</p>"
        )
    entry = found.choices[name]
    chosen = entry["rows"][0]["K"]
    return table(
        [
            {
                "choice": row["choice"],
                "K (bits/pixel)": number(row["K"], 3),
                "against the choice made": "" if row is entry["rows"][0] else number(row["K"] - chosen, 3),
                **({"Parzen window (bits)": number(row["parzen"], 0)} if "parzen" in row else {}),
                "parameters": f"{row['parameters']:,}",
                "seconds": f"{row['seconds']:.0f}",
            }
            for row in entry["rows"]
        ]
    )
