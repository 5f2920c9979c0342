"""What a training sees: its own images and no others, and fresh points at every step."""

import dataclasses

import pytest
import torch

from nonequilibrium.data.images import ImageSet, Scale
from nonequilibrium.data.toys import SwissRoll
from nonequilibrium.diffusion.kernels import GaussianKernel
from nonequilibrium.model.images import VALIDATION, ImageModel
from nonequilibrium.model.toys import HeartbeatModel
from replication.settings.settings import load, quick
from replication.training.train import train

N_TRAIN, N_TEST = 10 * VALIDATION + 500, 2000
SMALL = dataclasses.replace(
    quick("mnist_dense"), n_steps=5, dense_units=4, pixel_units=4, bumps=3, batch=500, train_steps=8
)


def numbered(n, first):
    """Images that say which they are: their first three pixels are the digits of their number."""
    number = torch.arange(first, first + n)
    images = torch.zeros(n, 1, 8, 8, dtype=torch.uint8)
    images[:, 0, 0, :3] = torch.stack([number % 30, number // 30 % 30, number // 900], 1).to(
        torch.uint8
    )
    return images


def numbers(images):
    digits = images[:, 0, 0, :3].long().cpu()
    return (digits * torch.tensor([1, 30, 900])).sum(1)


IMAGES = ImageSet(numbered(N_TRAIN, 0), numbered(N_TEST, N_TRAIN), "numbers", levels=32)
TRAINED_ON, ASIDE = set(range(N_TRAIN - VALIDATION)), set(range(N_TRAIN - VALIDATION, N_TRAIN))


@pytest.fixture
def seen(monkeypatch):
    """The numbers of all images that get noise, a list for each time."""
    batches, original = [], Scale.dequantise

    def noted(self, images, generator):
        batches.append(numbers(images).tolist())
        return original(self, images, generator)

    monkeypatch.setattr(Scale, "dequantise", noted)
    return batches


def test_training_and_watching_have_disjoint_parts_of_the_training_images():
    model = ImageModel(IMAGES, **vars(SMALL))
    assert set(numbers(model.images).tolist()) == TRAINED_ON and len(model.images) == len(
        TRAINED_ON
    )
    assert set(numbers(model.validation).tolist()) == ASIDE and len(model.validation) == VALIDATION


def test_a_whole_training_sees_no_test_image_and_steps_on_none_that_was_set_aside(
    seen, monkeypatch
):
    monkeypatch.setattr("replication.data.textures.load_images", lambda _: IMAGES)
    model, _ = train("mnist_dense", SMALL, log_every=100)
    *trained, watched = (
        seen  # one at the start, for the first layer; one a step; the bound at the end
    )
    assert len(trained) == 1 + SMALL.train_steps and set(watched) < ASIDE
    assert set().union(*trained) < TRAINED_ON and len(set().union(*trained)) > 3000, (
        "most of what can be drawn"
    )
    ours, both = Scale.of(IMAGES.train), Scale.of(torch.cat([IMAGES.train, IMAGES.test]))
    assert model.scale == pytest.approx(ours, rel=1e-6) != pytest.approx(both, rel=1e-6)


def test_consecutive_batches_of_images_are_others(seen):
    model, generator = ImageModel(IMAGES, **vars(SMALL)), torch.Generator().manual_seed(0)
    seen.clear()
    for _ in range(2):
        model.objective(generator)
    first, second = map(set, seen)
    assert len(first & second) < 100 < len(first), (
        "500 of 9,500 drawn twice have about 26 in common"
    )


def test_every_step_of_the_roll_has_fresh_points_and_fresh_noise(monkeypatch):
    points, noise = [], []
    sample = SwissRoll.sample
    params = load(
        "swiss_roll", {"n_steps": 5, "train_steps": 4, "starts": 1, "batch": 16, "units": 4}
    )

    def noted(self, n, generator):
        x0 = sample(self, n, generator)
        if n == params.batch:
            points.append(x0)
        return x0

    normal = GaussianKernel.sample

    def noted_noise(self, p, *arguments, **options):
        x = normal(self, p, *arguments, **options)
        noise.append((x - p.mean).detach())
        return x

    monkeypatch.setattr(SwissRoll, "sample", noted)
    monkeypatch.setattr(GaussianKernel, "sample", noted_noise)
    train("swiss_roll", params)
    assert len(points) == params.train_steps == len(noise)
    for drawn in (points, noise):
        values = torch.cat([x.flatten() for x in drawn])
        assert len(values.unique()) == len(values), "no coordinate comes twice"


def test_every_step_of_the_heartbeat_has_fresh_sequences_steps_and_flips():
    model = HeartbeatModel(
        **vars(load("heartbeat", {"n_steps": 50, "hidden": 20, "batch_t": 20, "batch": 8}))
    )
    seen = []
    network = model.network

    def noted(kernel, xt, t):
        seen.append((xt, t))
        return network(kernel, xt, t)

    del model.network
    model.network = noted
    generator = torch.Generator().manual_seed(0)
    values = [float(model.objective(generator).detach()) for _ in range(3)]
    assert len(set(values)) == 3
    for (first, t), (second, u) in zip(seen, seen[1:], strict=False):
        assert not torch.equal(t, u) and (first != second).double().mean() > 0.1
