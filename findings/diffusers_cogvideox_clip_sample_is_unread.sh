#!/usr/bin/env bash
# diffusers 0.42.1 (with torch 2.13.0): clip_sample of the CogVideoX schedulers.
#
# CogVideoXDDIMScheduler and CogVideoXDPMScheduler take clip_sample (True by default) and
# clip_sample_range, document them, and never read them: the estimate of the clean sample that step
# returns is not clipped. DDIMScheduler, with the same words, clips.
#
# Seen (largest estimate of the clean sample after one step from a sample of threes):
#   DDIMScheduler           1.000
#   CogVideoXDDIMScheduler  3.004
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet diffusers==0.42.1 torch==2.13.0 numpy
"$folder/venv/bin/python" - <<'PYTHON'
import diffusers
import torch

largest = {}
for kind in ("DDIM", "CogVideoXDDIM"):
    scheduler = getattr(diffusers, f"{kind}Scheduler")()
    assert scheduler.config.clip_sample and scheduler.config.clip_sample_range == 1.0
    scheduler.set_timesteps(50)
    x = torch.full((1, 1, 2, 2), 3.0)
    out = scheduler.step(torch.zeros_like(x), int(scheduler.timesteps[-1]), x)
    largest[kind] = float(out.pred_original_sample.abs().max())
    print(f"{kind + 'Scheduler':23} {largest[kind]:.3f}")
assert largest["DDIM"] == 1
assert largest["CogVideoXDDIM"] > 2, "clip_sample is read now"
PYTHON
