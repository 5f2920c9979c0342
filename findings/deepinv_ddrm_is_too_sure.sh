#!/bin/sh
# deepinv 0.5.0 with torch 2.13.0: sampling.DDRM, derived as a sampler of the posterior of linear
# problems, is three times too sure where the posterior is known, and it writes into the
# measurement it is given.
#
# A pixel x ~ N(0.5, 0.2^2) is seen as 0.8 in noise of deviation 0.2, with the exact denoiser. The
# posterior is N(0.65, 0.141^2). Every draw of noise is divided by the square root of two, and with
# eta = 0.85 as default the samples deviate by 0.047. For denoising, U_adjoint returns y itself and
# the division by the singular values is done in place, so y is another number afterwards.
#
# Output seen:
#   mean 0.69, deviation 0.047; the posterior has 0.65 and 0.141
#   y before 0.800000012, after 0.799999237
#
# torchvision is stood in for: deepinv imports it at top level and needs nothing of it here.
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q torch==2.13.0 numpy matplotlib tqdm einops requests h5py natsort \
    packaging lightning-utilities 2> /dev/null
"$folder/env/bin/pip" install -q --no-deps torchmetrics==1.9.0 deepinv==0.5.0 2> /dev/null
"$folder/env/bin/python" - <<'P'
import sys
from types import ModuleType
from unittest.mock import MagicMock


class StandIn(ModuleType):
    __path__ = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return MagicMock()


parts = "", "utils", "transforms", "transforms.functional", "datasets"
for name in (*parts, "datasets.folder", "datasets.utils"):
    name = f".{name}" if name else ""
    sys.modules["torchvision" + name] = StandIn("torchvision" + name)

import torch
import deepinv

torch.manual_seed(0)
torch.set_num_threads(1)


class Exact(torch.nn.Module):
    """The mean of x ~ N(0.5, 0.04) given x + noise of deviation sigma."""

    def forward(self, x, sigma, **_):
        return 0.5 + 0.04 / (0.04 + sigma**2) * (x - 0.5)


y = torch.full((4000, 1, 1, 1), 0.8)
before = y[0].item()
physics = deepinv.physics.Denoising(deepinv.physics.GaussianNoise(sigma=0.2))
x = deepinv.sampling.DDRM(Exact())(y, physics)
deviation = x.std().item()
print(f"mean {x.mean():.2f}, deviation {deviation:.3f}; the posterior has 0.65 and 0.141")
print(f"y before {before:.9f}, after {y[0].item():.9f}")
if deviation > 0.07 or y[0].item() == before:
    raise SystemExit("the behaviour has changed")
P
