"""How much the studies of theory measure: "quick" for a notebook, "full" for the pipeline."""

from __future__ import annotations

import yaml

from replication.settings.fields import check_name

PROFILES = yaml.safe_load("""
theory:  # T; held-out examples; n of the averages (9); T of other chains; points; posteriors
  quick: {T: 50, heartbeats: 60, rolls: 30, averages: [1, 4, 16, 64], chains: [10, 30, 100],
    chain_examples: 30, points: 500, bits: {T: 60, n: 1000},
    row: {correlations: [0.8, 0.99], sizes: [50], draws: 1200}}
  full: {T: 50, heartbeats: 400, rolls: 150, averages: [1, 4, 16, 64, 256],
    chains: [10, 30, 100, 300, 1000, 3000], chain_examples: 50, points: 4000,
    bits: {T: 200, n: 3000},
    row: {correlations: [0.8, 0.95, 0.99], sizes: [50, 100, 200, 400], draws: 2000}}
schedules:  # steps of ascent on K* of the roll, and points; held-out points; training steps; T
  quick: {climb: 3, points: 40, heldout: 300, train: 30, heartbeat: [20]}
  full: {climb: 30, points: 100, heldout: 2000, train: 600, heartbeat: [20, 50]}
differences:
  quick: {train: 40, heldout: 400, T: 50}
  full: {train: 600, heldout: 2000, T: 200}
weighted:  # sizes: T; counts: particles of a run; draws: particles of all runs together
  quick: {pair: {sizes: [20, 40], counts: [1, 256], draws: 5120},
    row: {T: 40, counts: [1, 64], draws: 1280},
    bits: {sizes: [40], counts: [1, 256], draws: 1024}, correlations: [0.8]}
  full: {pair: {sizes: [20, 50, 100, 200], counts: [1, 4, 16, 64, 256], draws: 10240},
    row: {T: 100, counts: [1, 16, 256], draws: 5120},
    bits: {sizes: [20, 60, 200], counts: [1, 16, 256], draws: 4096},
    correlations: [0.8, 0.95, 0.99]}
""")


def sizes_of(study: str, profile: str) -> dict:
    """The sizes of one study; raises ParameterError for a profile that does not exist."""
    check_name("profile", profile, PROFILES[study])
    return PROFILES[study][profile]
