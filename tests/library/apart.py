"""Processes of their own for tests, forked from one that has imported everything: an interpreter
that begins anew takes six seconds for that.
"""

import multiprocessing
import os

forks = multiprocessing.get_context("forkserver")
forks.set_forkserver_preload(
    [
        "torch._dynamo",
        "sklearn.datasets",
        "replication.measure.images",
        "replication.training.train",
    ]
)


def started(work, *given, **variables):
    """The process that does ``work(*given)`` in one thread, with these environment variables."""
    process = forks.Process(target=_alone, args=(work, given, variables))
    process.start()
    return process


def _alone(work, given, variables):
    import torch

    os.environ |= variables
    torch.set_num_threads(1)
    work(*given)
