"""MCGSM against laws whose likelihood is known."""

import math

import pytest
import torch

from nonequilibrium.data.leaves import leaves_pictures
from nonequilibrium.model.textures import LeavesModel
from replication.measure import leaves
from replication.measure.mcgsm import (
    MCGSM,
    causal,
    drawn_from,
    fit,
    neighbourhoods,
    per_image,
    sample_image,
)
from replication.settings.settings import evaluation, quick


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def gaussian_field(n, size, seed, rho=0.9):
    """Images of a separable autoregression, unit variance: p(y|x) is Gaussian, with three
    neighbours in the mean.
    """
    z = torch.randn(n, 1, size, size, generator=seeded(seed), dtype=torch.float64)
    keep = math.sqrt(1 - rho**2)
    for axis in (2, 3):
        rows = z.unbind(axis)
        field = [rows[0]]
        for row in rows[1:]:
            field.append(rho * field[-1] + keep * row)
        z = torch.stack(field, axis)
    return z.float()


def test_a_neighbourhood_is_what_comes_before_the_pixel_row_by_row():
    assert causal(3).tolist() == [[True, True, True], [True, False, False], [False, False, False]]
    image = torch.arange(30.0).reshape(1, 1, 5, 6)
    y, x = neighbourhoods(image, 3)
    assert y.shape == (1, 16) and x.shape == (1, 16, 4)
    assert (y[0, 0], x[0, 0].tolist()) == (7.0, [0.0, 1.0, 2.0, 6.0])
    assert y[0, -1] == 28.0, "the last row has pixels below nothing"
    many = drawn_from(image, 3)(200, seeded(0))
    found = {float(a): b.tolist() for a, b in zip(*many, strict=True)}
    assert found == {float(a): b.tolist() for a, b in zip(y[0], x[0], strict=True)}


def test_one_component_is_the_gaussian_of_the_chain_rule():
    train, test = gaussian_field(20, 64, 0), gaussian_field(20, 64, 1)
    model = MCGSM(4, 1, 1, 1, seeded(0))
    model.whiten(*drawn_from(train, 3)(100_000, seeded(1)))
    rest = (1 - 0.9**2) ** 2  # variance of a pixel given the three that matter
    truth = -0.5 * math.log(2 * math.pi * math.e * rest)
    assert float(per_image(model, test, 3).mean()) == pytest.approx(truth, abs=0.01)


def test_a_known_mcgsm_is_found_again_to_a_hundredth_of_a_nat():
    known = MCGSM(3, 2, 2, 2, seeded(0))
    with torch.no_grad():
        known.alpha.copy_(torch.tensor([[0.0, 4.0], [1.0, 3.0]]))
        known.a.copy_(torch.tensor([[1.0, -0.5, 0.0], [-1.0, 0.5, 0.3]]))
        known.beta.copy_(torch.tensor([[1.0, 0.1], [0.1, 0.8]]))

    def draw(n, random):
        x = torch.randn(n, 3, generator=random)
        return known.sample(x, random), x

    model = MCGSM(3, 4, 3, 4, seeded(1))
    model.whiten(*draw(50_000, seeded(2)))
    fit(model, draw, seeded(3), steps=1500, batch=2000, learning_rate=0.03)
    y, x = draw(100_000, seeded(4))
    with torch.no_grad():
        lost = known(y, x) - model(y, x)
    assert -0.001 < float(lost.mean()) < 0.01
    assert float((known(y, x).exp()).isfinite().float().mean()) == 1


def test_densities_integrate_to_one_and_samples_follow_them():
    model = MCGSM(3, 3, 2, 3, seeded(5))
    model.whiten(
        torch.randn(1000, generator=seeded(6)) * 2 + 1, torch.randn(1000, 3, generator=seeded(7))
    )
    x = torch.tensor([[0.5, -1.0, 2.0]])
    grid = torch.linspace(-60, 60, 60_001)
    with torch.no_grad():
        density = model(grid, x.expand(len(grid), 3)).exp()
    step = float(grid[1] - grid[0])
    assert float(density.sum()) * step == pytest.approx(1, abs=1e-3)
    y = model.sample(x.expand(50_000, 3), seeded(8))
    mean, spread = float((grid * density).sum()) * step, float(y.std())
    assert float(y.mean()) == pytest.approx(mean, abs=4 * spread / 50_000**0.5)


def test_a_sampled_image_has_the_law_it_was_drawn_by():
    model = MCGSM(4, 1, 1, 1, seeded(0))
    model.whiten(*drawn_from(gaussian_field(20, 64, 0), 3)(100_000, seeded(1)))
    image = sample_image(model, 48, seeded(2), 3)
    right, below = (
        float((a * b).mean() / image.square().mean())
        for a, b in [(image[:, 1:], image[:, :-1]), (image[1:], image[:-1])]
    )
    assert right == pytest.approx(0.9, abs=0.1) and below == pytest.approx(0.9, abs=0.1)


def test_given_its_borders_an_image_has_the_density_that_quadrature_finds():
    noise, random = 0.07, seeded(1)
    top = torch.tensor([[5, 5, 9], [5, 2, 9], [2, 2, 9]])
    grey = {
        5: 0.31,
        9: 0.98,
        2: 0.02,
    }  # two of them so near the ends that the grey's own bounds count
    x = top.double().apply_(grey.get) + noise * torch.randn(
        3, 3, generator=random, dtype=torch.float64
    )
    g = (torch.arange(20000, dtype=torch.float64) + 0.5) / 20000
    each = [
        torch.distributions.Normal(g, noise)
        .log_prob(x[top == leaf][:, None])
        .sum(0)
        .exp()
        .mean()
        .log()
        for leaf in grey
    ]
    found = leaves.given_borders(
        torch.stack([x, x.flip(0)]), torch.stack([top, top.flip(0)]), noise
    )
    assert found.tolist() == pytest.approx([float(sum(each)) / 9] * 2, rel=1e-6)


@pytest.fixture(scope="module")
def measured():
    """(model, what is measured): a network as it starts, and an MCGSM trained for a moment."""
    sizes = {"n_steps": 12, "size": 32, "patch": 32, "n_train": 10, "conv_channels": 4}
    params = quick("dead_leaves", sizes)
    model = LeavesModel(leaves_pictures(params), **vars(params)).eval()
    settings = evaluation("dead_leaves", "quick", {"n_heldout": 4, "draws": 1, "mcgsm_steps": 5})
    return model, leaves.evaluate("dead_leaves", model, settings)


def test_held_out_leaves_are_no_training_images(measured):
    model, result = measured
    shown = result.arrays["figure_4"][0] * model.scale.sigma + model.scale.mean
    for image in leaves_pictures(model.params).train:
        assert float((shown - image[0]).std()) > 3 * model.params.noise


def test_the_margin_over_mcgsm_is_paired(measured):
    """Image by image: easy images are easy for both, which the error of the margin leaves out."""
    numbers, (ours, theirs) = measured[1].numbers, measured[1].arrays["scores"].double()
    margin = (ours - theirs).mean(), (ours - theirs).std() / 2
    assert numbers["margin_over_mcgsm"] == pytest.approx(float(margin[0]), rel=1e-4)
    assert numbers["margin_se"] == pytest.approx(float(margin[1]), rel=1e-3)
    assert numbers["margin_over_mcgsm"] == pytest.approx(numbers["K"] - numbers["mcgsm"])
