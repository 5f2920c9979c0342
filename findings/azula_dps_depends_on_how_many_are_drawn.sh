#!/bin/sh
# azula 0.11.1 with torch 2.13.0: DPSSampler takes one norm over the whole batch of residuals
# (torch.linalg.vector_norm without dim), so the guidance of each sample is divided by about the
# square root of the number of samples that are drawn together. What a sample is worth depends on
# its company. The paper's algorithm (Chung et al. 2022) has a norm for each image.
#
# Here one pixel x ~ N(0, 0.16) is seen in noise of the same variance, with the exact denoiser; the
# posterior deviates by 0.283. Output seen:
#   drawn one at a time:  0.56
#   drawn 256 at a time:  0.20
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q torch==2.13.0 numpy einops==0.8.2 tqdm 2> /dev/null
"$folder/env/bin/pip" install -q --no-deps azula==0.11.1 2> /dev/null
"$folder/env/bin/python" - <<'P'
import torch
from azula.denoise import GaussianDenoiser
from azula.guidance import DPSSampler
from azula.linalg.covariance import IsotropicCovariance
from azula.noise import VPSchedule

torch.manual_seed(0)
torch.set_num_threads(1)
law = GaussianDenoiser(torch.zeros(1), IsotropicCovariance(torch.tensor(0.16)), VPSchedule())
sampler = DPSSampler(law, torch.tensor([0.6]), lambda x: x, silent=True)


def deviation(together):
    runs = [sampler(sampler.init((together, 1))) for _ in range(256 // together)]
    return float(torch.cat(runs).std())


single, batch = deviation(1), deviation(256)
print(f"drawn one at a time:  {single:.2f}")
print(f"drawn 256 at a time:  {batch:.2f}")
if not single > 1.5 * batch:
    raise SystemExit("the behaviour has changed")
P
