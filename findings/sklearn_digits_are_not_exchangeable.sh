#!/bin/sh
# scikit-learn 1.9.1: the rows of load_digits() are not exchangeable. The digits are the test part of
# the UCI set, by thirteen writers, and stand in the order of collection, which the documentation does
# not say. A support vector machine that knows nothing of the labels tells the first half of the rows
# from the second, and a classifier of digits that is tested on the rows after those it was trained on
# makes twice the errors of one with a shuffled split.
#
# Output seen (accuracies):
#   halves in order told apart:  0.746, shuffled halves: 0.506
#   digits after the training rows: 0.969, after shuffling: 0.986
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q scikit-learn==1.9.1 2> /dev/null
"$folder/env/bin/python" - <<'P'
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.svm import SVC

pixels, label = load_digits(return_X_y=True)
half, random = len(pixels) // 2, np.random.default_rng(0)
folds = StratifiedKFold(5, shuffle=True, random_state=0)
second = np.arange(len(pixels)) >= half


def told_apart(group):
    return cross_val_score(SVC(gamma=1e-3), pixels, group, cv=folds).mean()


def score(rows):
    machine = SVC(gamma=1e-3).fit(pixels[rows[:half]], label[rows[:half]])
    return machine.score(pixels[rows[half:]], label[rows[half:]])


ordered, shuffled = told_apart(second), told_apart(random.permutation(second))
after = score(np.arange(len(pixels)))
mixed = np.mean([score(random.permutation(len(pixels))) for _ in range(5)])
print(f"halves in order told apart:  {ordered:.3f}, shuffled halves: {shuffled:.3f}")
print(f"digits after the training rows: {after:.3f}, after shuffling: {mixed:.3f}")
if not (ordered > 0.65 and abs(shuffled - 0.5) < 0.05 and 1 - after > 1.5 * (1 - mixed)):
    raise SystemExit("the behaviour has changed")
P
