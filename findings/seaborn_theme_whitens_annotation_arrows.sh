#!/usr/bin/env bash
# seaborn 0.13.2 and matplotlib 3.10.8: arrows of annotations.
#
# seaborn.set_theme() sets matplotlib's patch.edgecolor to white, for the sake of bars. The arrow of
# Axes.annotate(arrowprops={"arrowstyle": "->"}) is a patch too and takes its colour from there. So
# after set_theme(style="ticks") arrows of annotations are drawn white on white and vanish, while the
# text of the same annotation stays black. An explicit "color" in arrowprops brings them back.
#
# Seen:
#   before set_theme: arrow (0.0, 0.0, 0.0, 1.0)
#   after set_theme:  arrow (1.0, 1.0, 1.0, 1)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet seaborn==0.13.2 matplotlib==3.10.8
MPLBACKEND=agg "$folder/venv/bin/python" - <<'PYTHON'
import matplotlib.pyplot as plt
import seaborn as sns


def colour():
    figure, ax = plt.subplots()
    note = ax.annotate("a", (0, 0), (1, 1), arrowprops={"arrowstyle": "->"})
    return note.arrow_patch.get_edgecolor()


before = colour()
sns.set_theme(style="ticks")
after = colour()
print("before set_theme: arrow", before)
print("after set_theme:  arrow", after)
assert before[:3] == (0, 0, 0) and after[:3] == (1, 1, 1), "the arrow keeps its colour now"
PYTHON
