#!/usr/bin/env bash
# MONAI 1.6.1 (with torch 2.13.0): DiffusionInferer.get_likelihood.
#
# The term of the last step, -log p(x_0|x_1), uses the posterior's variance at t = 0, which is zero
# and is clamped to 1e-20, where Ho et al. (2020), whose program it is adapted from, use that of
# t = 1. Unless the mean is exact to 1e-10 every pixel then costs the floor of the decoder,
# -log 1e-12 = 27.6 nats, and the likelihood says almost nothing else. No warning is given.
#
# Below, data are 8-bit levels of a Gaussian and the network is the exact one, for which the term
# is computed again with the variance of t = 1.
#
# Seen, nats per dimension:
#   MONAI's last step              19.2
#   with the variance of t = 1      1.8
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy
"$folder/venv/bin/pip" install --quiet --no-deps monai==1.6.1
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from monai.inferers import DiffusionInferer
from monai.networks.schedulers import DDPMScheduler

torch.manual_seed(0)
images = ((0.1 + 0.2 * torch.randn(100, 1, 8, 8) + 1) * 127.5).round().clamp(0, 255) / 127.5 - 1
scheduler = DDPMScheduler(
    num_train_timesteps=1000, schedule="linear_beta", beta_start=1e-4, beta_end=0.02,
    clip_sample=False,
)
signal = scheduler.alphas_cumprod


class Exact(torch.nn.Module):
    """The best prediction of the noise for pixels N(0.1, 0.2^2)."""

    def forward(self, x, timesteps, context=None):
        a = signal[timesteps].reshape(-1, 1, 1, 1)
        clean = 0.1 + 0.04 * a.sqrt() / (0.04 * a + 1 - a) * (x - a.sqrt() * 0.1)
        return (x - a.sqrt() * clean) / (1 - a).sqrt()


inferer, ranges = DiffusionInferer(scheduler), {"original_input_range": (0, 255)}
ranges["scaled_input_range"] = (-1, 1)
_, terms = inferer.get_likelihood(
    images, Exact(), scheduler, save_intermediates=True, verbose=False, **ranges
)
theirs = float(terms[-1].mean())
t = torch.zeros(100, dtype=torch.long)
noisy = scheduler.add_noise(images, torch.randn_like(images), t)
a = signal[0]
mean = (noisy - (1 - a).sqrt() * Exact()(noisy, t)) / a.sqrt()
log_sd = 0.5 * torch.log(scheduler._get_variance(1)).expand_as(mean)
right = -float(inferer._get_decoder_log_likelihood(images, mean, log_sd, **ranges).mean())
print(f"MONAI's last step              {theirs:.1f}")
print(f"with the variance of t = 1      {right:.1f}")
assert theirs > 15 and right < 2.5, "the last step has a variance now"
PYTHON
