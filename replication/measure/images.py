"""How an image experiment's model is measured: K on test images, and the parts that the register
names for it.
"""

from __future__ import annotations

import pandas as pd
import torch

from nonequilibrium.bound.bound import L_null, bits, full_bound, sampled_bound
from nonequilibrium.bound.proposals import pilot_proposal
from nonequilibrium.diffusion.sampling import sample_each
from nonequilibrium.model.images import ImageModel
from replication.data.images import load_images
from replication.measure import baselines, window
from replication.measure.given import Given
from replication.measure.measured import Measured
from replication.measure.metrics import baseline_metrics, image_metrics, seeded, thinning
from replication.restoration import posteriors
from replication.settings.evaluation import ImageEvaluation
from replication.settings.registry import EXPERIMENTS


def measured(experiment: str, model: ImageModel, its: ImageEvaluation) -> Measured:
    """K of test images by the sampled sum over t, its errors, the part of each step, and the parts
    of the register.

    numbers: the contract of reports/metrics, in bits per pixel. tables: K_by_time_step with columns
    t and K, the mean of KL_t in bits per pixel. arrays: K_per_example, (n,) float32 bits per pixel,
    in the order of the test file, so that two models can be compared image by image. Pictures are
    uint8 pixels.
    """
    images = load_images(model.params.data)
    heldout = model.scale.dequantise(images.test[: its.n_heldout], seeded(its.seed))
    with torch.no_grad():
        kernel = model.kernel()
    draws = seeded(its.seed + 2)
    bound = sampled_bound(
        kernel, model.reverse(kernel), heldout, draws, its.draws, model.proposal(), block=100
    )
    null = float(L_null(kernel, heldout).mean())
    KL = bits(bound.kl.mean(0)) / model.pixels
    found = Measured(
        image_metrics(experiment, model, bound, null, its.seed, draws=its.draws),
        {"K_by_time_step": pd.DataFrame({"t": range(2, kernel.T + 1), "K": KL[2:].numpy()})},
        {"K_per_example": (bits(bound.per_example) / model.pixels).float()},
    )
    given = Given(experiment, model, kernel, images, heldout, bound, its)
    for name in EXPERIMENTS[experiment].parts:
        add(found, PARTS[name](given))
    return found


def add(found: Measured, part: Measured) -> None:
    """Put what a part measured beside the rest; where both have a dict by one name, its entries are
    joined.
    """
    for key, value in part.numbers.items():
        found.numbers[key] = (
            found.numbers.get(key, {}) | value if isinstance(value, dict) else value
        )
    found.tables.update(part.tables)
    found.arrays.update(part.arrays)


def naive(given: Given) -> Measured:
    """K by one uniform t an image, as the authors' published program has it, with two draws: how
    poor an estimator it is.
    """
    draws = given.seeded(3)
    bound = sampled_bound(
        given.kernel, given.reverse, given.heldout, draws, 1, stratified=False, block=100
    )
    K, error = (bits(value) / given.model.pixels for value in (bound.K, bound.mc_se))
    return Measured({"naive_K": K, "naive_mc_se_two_draws": error})


def estimators(given: Given) -> Measured:
    """The same number of network evaluations spent in four ways, on a fifth of the images.

    numbers["estimators"]: rows {"estimator", "K", "mc_se"} in bits per pixel. From 1,000 images on,
    mc_se is that for all of them.
    """
    n, proposal, pixels = len(given.heldout), given.model.proposal(), given.model.pixels
    ways: dict[str, dict] = {
        "uniform t, independent": {"proposal": None, "stratified": False},
        "uniform t, stratified": {"proposal": None, "stratified": True},
        "t by size of KL, independent": {"proposal": proposal, "stratified": False},
        "t by size of KL, stratified": {"proposal": proposal, "stratified": True},
    }
    some = given.heldout[: max(100, given.its.n_heldout // 5)]
    scale = 1 / (pixels * (1 if n < 1000 else (n / len(some)) ** 0.5))
    rows = []
    for way, options in ways.items():
        bound = sampled_bound(
            given.kernel, given.reverse, some, given.seeded(3), 1, block=100, **options
        )
        rows.append(
            {"estimator": way, "K": bits(bound.K) / pixels, "mc_se": bits(bound.mc_se) * scale}
        )
    return Measured({"estimators": rows})


def histograms(given: Given) -> Measured:
    """Bits per dimension of test images under tables of counts that have no network."""
    aside = 1000 if len(given.images.train) > 20_000 else 200
    return Measured({"histograms": baseline_metrics(baselines.histograms(given.images, aside))})


def thinned(given: Given) -> Measured:
    """K of the thinned chain, by which many samples are drawn, beside that of all T steps on the
    same images.
    """
    of_thinned = EXPERIMENTS[given.experiment].thinned
    chain, random = given.thin(), given.seeded(of_thinned["offset"])
    pilot = pilot_proposal(full_bound(*chain, given.heldout[:20], random, block=500))
    bound = sampled_bound(*chain, given.heldout, random, of_thinned["draws"], pilot, block=100)
    return Measured(
        {"thin_steps": given.thin_steps, **thinning(given.bound, bound, given.model.pixels)}
    )


def shown(given: Given) -> Measured:
    """True samples by all T steps, none chosen: array ``shown``."""
    of_shown = EXPERIMENTS[given.experiment].shown
    n, seed = min(given.its.n_shown, of_shown["most"]), given.its.seed + of_shown["offset"]
    x = sample_each(given.kernel, given.reverse, n, given.shape, seed)
    return Measured({}, {}, {"shown": given.model.scale.to_pixels(x)})


PARTS = {
    "naive": naive,
    "estimators": estimators,
    "histograms": histograms,
    "thinned": thinned,
    "shown": shown,
    "window": window.window,
    "calibration": window.calibration,
    "halves": posteriors.halves,
    "figure_3": posteriors.figure_3,
    "inpainting": posteriors.inpainting,
    "denoising": posteriors.denoising,
    "guided": posteriors.guided,
}
