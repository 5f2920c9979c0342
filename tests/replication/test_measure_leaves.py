"""How dead leaves are measured, on a model of one training step and tiny images."""

import pytest

from nonequilibrium.bound.bound import mean_se
from replication.measure.measure import measure, trained
from replication.settings.settings import evaluation

TINY = dict(n_steps=4, size=24, patch=16, n_train=10, n_test=4, largest=8.0, train_steps=1, batch=2)
TINY |= dict(conv_channels=2, scales=1, pixel_units=4)


def test_the_margin_over_the_MCGSM_and_its_error_are_those_of_differences_image_by_image():
    model = trained("dead_leaves", overrides=TINY)
    settings = dict(n_heldout=4, draws=1, mcgsm_steps=2)
    result = measure("dead_leaves", model, evaluation("dead_leaves", "quick", settings))
    ours, theirs = result.arrays["scores"].double()
    paired = result.numbers["margin_over_mcgsm"], result.numbers["margin_se"]
    assert paired == pytest.approx(mean_se(ours - theirs), rel=1e-4)
    unpaired = (mean_se(ours)[1] ** 2 + mean_se(theirs)[1] ** 2) ** 0.5
    assert unpaired != pytest.approx(paired[1], rel=1e-3)
