"""The numbers that the paper prints and this project compares with, from ``params.yaml``."""

from replication.settings.registry import section

PAPER = section("paper")
TABLE_1, PARZEN = PAPER["table_1"], PAPER["parzen"]
MCGSM_DEAD_LEAVES, HEARTBEAT_TRUE_L = PAPER["mcgsm_dead_leaves"], PAPER["heartbeat_true_L"]
CIFAR10_SIGMA = PAPER["cifar10_sigma"]
