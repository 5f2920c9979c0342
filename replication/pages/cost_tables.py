"""What a bit costs: how long, on what and with how many parameters each image model was trained,
beside its bound.
"""

from __future__ import annotations

from pandas import DataFrame

from replication.pages.findings import Findings, number, with_error
from replication.settings.registry import EXPERIMENTS

DEVICES = {"cpu": "CPU", "cuda": "GPU"}  # of cards that do not name their hardware


def costs(found: Findings) -> DataFrame:
    """A row an image model that was trained and measured; K on held-out images, the cost of
    training as its card has it.
    """
    rows = []
    for name, its in EXPERIMENTS.items():
        m, card = found.numbers.get(name), found.cards.get(name)
        if not its.images or m is None or card is None or found.stale(name):
            continue
        row = {"model": its.title, "K (bits/pixel)": with_error(m["K"], m["K_se"], 3)}
        row |= {"bits/dim": number(m["bits_per_dim"], 3) if "bits_per_dim" in m else ""}
        row |= {"parameters": f"{m['parameters']:,}"}
        row |= {"gradient steps": f"{card.get('steps', card['params']['train_steps']):,}"}
        row |= {
            "images a step": f"{card['params']['batch']:,}",
            "minutes": number(card["seconds"] / 60, 0),
        }
        rows.append(row | {"on": card.get("hardware") or DEVICES[card["device"].partition(":")[0]]})
    return DataFrame(rows)
