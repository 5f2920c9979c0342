import math

import pytest
import torch

from nonequilibrium.data.toys import Heartbeat, SwissRoll


def test_roll_has_mean_zero_and_variance_one():
    x = SwissRoll(0.05).sample(400_000, torch.Generator().manual_seed(0))
    assert x.mean(0).abs().max() < 0.01
    assert x.square().mean().item() == pytest.approx(1, abs=0.01)


def test_roll_is_the_curve_plus_noise():
    law = SwissRoll(1e-3)
    theta = law.theta_grid(5)
    h = 1e-6
    speed = (law.curve(theta + h) - law.curve(theta - h)).norm(dim=-1) / (2 * h)
    assert torch.allclose(speed, law.speed(theta), rtol=1e-6)
    x = law.sample(500, torch.Generator().manual_seed(0))
    distance = torch.cdist(x, law.curve(law.theta_grid(200_000))).min(1).values
    assert distance.square().mean().sqrt().item() == pytest.approx(
        1e-3, rel=0.1
    )  # only the normal part is seen


@pytest.mark.parametrize("noise", [0.0, -1.0, 1.0, math.nan])
def test_roll_refuses_noise_out_of_range(noise):
    with pytest.raises(ValueError, match="noise is"):
        SwissRoll(noise)


def test_heartbeat_has_a_one_in_every_fifth_bin():
    law = Heartbeat()
    x = law.sample(1000, torch.Generator().manual_seed(0))
    assert (x.sum(1) == 4).all() and (x[:, :15] == x[:, 5:]).all()
    assert x.mean().item() == pytest.approx(0.2) and len(x.unique(dim=0)) == 5
    assert law.log_likelihood == pytest.approx(math.log(0.2))
