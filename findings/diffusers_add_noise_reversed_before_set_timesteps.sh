#!/usr/bin/env bash
# diffusers 0.42.1 (with torch 2.13.0): add_noise of the multistep schedulers.
#
# A fresh DPMSolverMultistepScheduler, DEISMultistepScheduler or UniPCMultistepScheduler has
# timesteps that fall from T-1 to 0 beside sigmas that rise with t. add_noise looks a step up in the
# first and takes the noise level from the second, so that step 0 gets the most noise and step T-1
# the least, until set_timesteps is called. DDPMScheduler.add_noise, the usual one in training, has
# the least noise at step 0. No warning is given.
#
# Seen (standard deviation of the noise added at steps 0 and 999):
#   DDPMScheduler                0.010 1.000
#   DPMSolverMultistepScheduler  1.000 0.010
#   DEISMultistepScheduler       1.000 0.010
#   UniPCMultistepScheduler      1.000 0.010
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet diffusers==0.42.1 torch==2.13.0 numpy
"$folder/venv/bin/python" - <<'PYTHON'
import diffusers
import torch

steps, levels = torch.tensor([0, 999]), {}
for kind in ("DDPM", "DPMSolverMultistep", "DEISMultistep", "UniPCMultistep"):
    scheduler = getattr(diffusers, f"{kind}Scheduler")()
    noisy = scheduler.add_noise(torch.zeros(2, 1, 1, 1), torch.ones(2, 1, 1, 1), steps)
    levels[kind] = [round(float(value), 3) for value in noisy.flatten()]
    print(f"{kind + 'Scheduler':28} {levels[kind][0]:.3f} {levels[kind][1]:.3f}")
first, *others = levels.values()
assert first == [0.01, 1.0]
assert all(level == [1.0, 0.01] for level in others), "the order is that of DDPM now"
PYTHON
