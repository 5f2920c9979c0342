"""The bound of a model that was trained elsewhere, as a kernel and a reverse, and its bits/dim.

    model = adapters.from_diffusers(unet, scheduler)  # or a GaussianDiffusion, or a function
    print(adapters.bits_per_dim(model, images))  # images (n, c, h, w), grey levels 0..255

Later papers count steps s = t − 1 and scale images to [−1, 1] (Ho et al. 2020).
"""

from nonequilibrium.adapters.cost import Cost, bits_per_dim
from nonequilibrium.adapters.libraries import (
    adapted,
    from_denoising_diffusion_pytorch,
    from_diffusers,
)
from nonequilibrium.adapters.paths import fewer, from_edm, from_flow, from_score, from_ve
from nonequilibrium.adapters.prediction import Adapted, from_function
from nonequilibrium.adapters.work import log_level
from nonequilibrium.errors import AdapterError

__all__ = ["Adapted", "AdapterError", "Cost", "adapted", "bits_per_dim", "fewer", "log_level"]
__all__ += ["from_denoising_diffusion_pytorch", "from_diffusers", "from_edm", "from_flow"]
__all__ += ["from_function", "from_score", "from_ve"]
