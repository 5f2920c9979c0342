"""The look of every figure, and how a figure becomes a file."""

import io
from collections.abc import Callable
from pathlib import Path

import ipywidgets
import seaborn as sns
from IPython import get_ipython
from IPython.display import display
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib_inline.backend_inline import set_matplotlib_formats

INK, OURS, PAPER, LIMIT, MUTED = "#1b2a41", "#1f6f8b", "#c8553d", "#588157", "#9aa5b1"
COLOURS = (OURS, LIMIT, PAPER, INK, MUTED)
DPI = 200  # of files: about two pixels to each of the screen's, at a figure's own size


def style() -> None:
    """Set the look of every figure; in a notebook also twice the pixels, shown at the same size."""
    sns.set_theme(style="ticks", palette=[OURS, PAPER, LIMIT, INK, MUTED])
    plt.style.use(Path(__file__).with_name("figures.mplstyle"))
    if get_ipython() is not None:
        set_matplotlib_formats("retina")


def save(figure: Figure, path: Path) -> None:
    """Write a PNG whose bytes depend on the picture alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI, metadata={"Software": None})


def show(figure: Figure, alt: str) -> Figure:
    """Display a figure with alternative text, which readers of screens and of the page get."""
    display(figure, metadata={"image/png": {"alt": alt}})
    plt.close(figure)
    return figure


def slider(draw: Callable[[int], Figure], most: int, step: int = 1) -> ipywidgets.VBox:
    """A slider over t = 0..most above the figure ``draw(t)``, drawn again when it is let go."""
    t = ipywidgets.IntSlider(most // 4, 0, most, step, description="t", continuous_update=False)
    picture = ipywidgets.Image(width=380)  # without a browser an output widget once hung

    def look(_=None) -> None:
        figure, file = draw(t.value), io.BytesIO()
        figure.savefig(file)
        plt.close(figure)
        picture.value = file.getvalue()

    t.observe(look, "value")
    look()
    return ipywidgets.VBox([t, picture])
