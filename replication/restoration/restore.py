"""Held-out images restored from what was seen of them, by each way that r enters the reverse chain,
beside other methods.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nonequilibrium.data.images import ImageSet
from nonequilibrium.diffusion.evidence import Downsample
from nonequilibrium.model.images import ImageModel
from replication.measure.measured import Measured
from replication.measure.metrics import seeded
from replication.restoration import observations
from replication.restoration.ways import THROUGH, Setting, Sizes, ways, weighted


def elsewhere(its: Setting, train: Tensor) -> tuple[dict[str, Tensor], str]:
    """The same images by other methods, uint8 (n, c, h, w), and what is left out and why."""
    task, scale, shape = its.task, its.model.scale, (its.x0.shape[-2], its.x0.shape[-1])
    pixels = scale.to_pixels(its.x0)
    if task.known is not None:
        return observations.filled(pixels, task.known)
    if isinstance(task.A, Downsample):
        return observations.enlarged(its.y, scale, shape), ""
    if task.A is None:
        found, left_out = observations.denoised(its.y, train, seeded(its.seed + 500))
    else:
        found, left_out = (
            {"Wiener deconvolution": observations.sharpened(its.y, task.A, task.var, train)},
            "",
        )
        found["the blurred image itself"] = its.y
    return {
        name: observations.baselines.denoised_pixels(scale, x) for name, x in found.items()
    }, left_out


def _row(
    method: str, truth: Tensor, estimate: Tensor, missing: Tensor | None
) -> tuple[dict, dict[str, Tensor]]:
    values = observations.scores(truth, estimate, missing)
    row: dict = {"method": method, "n": len(truth)}
    for name, each in values.items():
        row |= {name: float(each.mean()), f"{name}_se": float(each.std()) / len(each) ** 0.5}
    return row, values


def gain(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> dict:
    """Ours less theirs, image by image: {measure: {"mean", "se"}}."""
    found = {}
    for key in ours:
        off = ours[key] - theirs[key]
        found[key] = {"mean": float(off.mean()), "se": float(off.std()) / len(off) ** 0.5}
    return found


def restored(
    model: ImageModel,
    images: ImageSet,
    sizes: Sizes,
    seed: int,
    label: str,
    looks_through: bool = True,
) -> Measured:
    """Every task on held-out images by every way, beside the other methods.

    numbers: {"n_steps", "thin_steps", "solve", "keys", "tasks": {task: {"rows", "gains",
    "left_out", "weighted"}}}. A row has method, n, PSNR (dB), SSIM, spectrum (dB), their _se.
    gains: the mean of samples through the model less each other method, by image.
    arrays: under the names "keys" of numbers, (strips, up to 8, c, h, w) uint8; "strips" in numbers
    names them.
    """
    order = torch.randperm(len(images.test), generator=seeded(seed))
    height, width = images.test.shape[-2:]
    train = model.scale.dequantise(images.train[:5000], seeded(seed + 1))
    chain = model.thinned(min(sizes.steps, model.params.n_steps))
    numbers, keys, arrays = {}, {}, {}
    for place, (name, task) in enumerate(observations.tasks(height, width).items()):
        if not (n := sizes.images.get(name, 0)):
            continue
        test = images.test[order[:n]]
        x0 = model.scale.dequantise(test, seeded(seed + 2))
        its = Setting(
            model,
            chain,
            task,
            x0,
            task.seen(x0, seeded(seed + 3)),
            1000 * (place + 1) + seed,
            sizes,
        )
        rows, values, strips = (
            [],
            {},
            {"held-out": test, "what is seen": task.shown(its.y, model.scale, (height, width))},
        )
        for way, draw in ways(task, looks_through).items():
            drawn = draw(its)
            k = len(drawn)
            estimates = {
                f"one sample, {way}": drawn[0],
                f"mean of {k} samples, {way}": drawn.mean(0),
            }
            estimates = {way: drawn[0]} if k == 1 else estimates
            for method, x in estimates.items():
                pixels = kept(
                    its,
                    model.scale.to_pixels(x) if method.startswith("one") else _nearest(model, x),
                    test,
                )
                row, values[method] = _row(method, test, pixels, task.missing)
                rows.append(row)
                strips[method] = pixels
        theirs, left_out = elsewhere(its, train)
        for method, pixels in theirs.items():
            row, values[method] = _row(method, test, pixels, task.missing)
            rows.append(row)
            strips[method] = pixels
        entry: dict = {"rows": rows, "left_out": left_out, "strips": list(strips)}
        ours = next(
            (method for method in values if method.startswith("mean") and method.endswith(THROUGH)),
            None,
        )
        if ours:
            entry["gains"] = {
                method: gain(values[ours], its_)
                for method, its_ in values.items()
                if method in theirs
            }
        if task.known is not None and sizes.particles[0]:
            estimates, entry["weighted"] = weighted(its)
            some = test[: sizes.particles[0]]
            for method, x in estimates.items():
                pixels = kept(its, _nearest(model, x), some)
                rows.append(_row(method, some, pixels, task.missing)[0])
        numbers[name] = entry
        keys[name] = f"{label}_{place}"
        arrays[keys[name]] = torch.stack([strip[:8] for strip in strips.values()])
    found: dict = {"n_steps": model.params.n_steps, "thin_steps": chain[0].T, "solve": sizes.solve}
    found |= {"tasks": numbers, "keys": keys}
    return Measured({label: found}, {}, arrays)


def _nearest(model: ImageModel, x: Tensor) -> Tensor:
    return observations.baselines.denoised_pixels(model.scale, x)


def kept(its: Setting, pixels: Tensor, truth: Tensor) -> Tensor:
    """Known pixels exactly as given."""
    return pixels if its.task.known is None else torch.where(its.task.known, truth, pixels)
