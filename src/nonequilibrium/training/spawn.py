"""Work that several processes of this machine share: started from a program or a notebook, ended
together, whatever befalls one.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from multiprocessing import connection
from pathlib import Path
from typing import Any, cast

import torch
from tqdm import tqdm

from nonequilibrium.errors import ParameterError, Refusal, one_line
from nonequilibrium.training.distributed import LostProcess, group, launched

GRACE = 3.0  # seconds that the others get to end by themselves when one has failed


def check_devices(devices: int, device: str = "cpu", batch: int | None = None) -> None:
    """Raises ParameterError unless the work can be shared by so many processes, each with a core or
    a GPU of its own.
    """
    if not isinstance(devices, int) or isinstance(devices, bool) or devices < 1:
        raise ParameterError(
            f"devices is {devices!r}; it must be a whole number of processes, at least 1"
        )
    if launched():
        if devices > 1:
            raise ParameterError(
                f"devices is {devices}; under torchrun its --nproc-per-node says how many there are"
            )
        devices, local = int(os.environ["WORLD_SIZE"]), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    else:
        local = devices
    if batch is not None and devices > batch:
        raise ParameterError(
            f"devices is {devices}; a batch of {batch} has no share for so many, so at most {batch}"
        )
    if devices == 1:
        return
    if device.startswith("cuda"):
        if device != "cuda":
            raise ParameterError(
                f"device is {device!r} and devices is {devices}; for a GPU each, device must be cuda"
            )
        have, what = torch.cuda.device_count(), "GPUs"
    else:
        have, what = os.cpu_count() or 1, "cores"
    if local > have:
        raise ParameterError(
            f"devices is {local}; this machine's {what} are {have}, and each process needs one"
        )


def run(function: Callable, devices: int, *arguments) -> Any:
    """``function(*arguments)`` by ``devices`` new processes of this machine that share the work;
    returns what the first returns.

    function: of a module, with arguments and a result that can be pickled. What the first prints is
    printed here. A Refusal or an OSError of any process ends all and is raised here; LostProcess is
    raised when one was killed. No process is left.
    """
    with tempfile.TemporaryDirectory() as name:
        folder, threads = Path(name), max(1, torch.get_num_threads() // devices)
        (folder / "work").write_bytes(pickle.dumps((function, arguments)))
        with _few_words():
            started = torch.multiprocessing.start_processes(
                _work, (devices, threads, folder), nprocs=devices, join=False, start_method="spawn"
            )
        processes = started.processes
        try:
            _wait(processes)
            codes = [process.exitcode for process in processes]
        finally:
            for process in processes:
                process.kill()
            for process in processes:
                process.join()
        if any(codes):
            raise _blame(folder, codes)
        result, printed = pickle.loads((folder / "result").read_bytes())
    sys.stdout.write(printed)
    return result


@contextlib.contextmanager
def _few_words():
    """Processes that are started inside keep torch's C++ advice to themselves: it is for
    programmers, and comes from each of them.
    """
    name = "TORCH_CPP_LOG_LEVEL"
    kept = os.environ.get(name)
    os.environ.setdefault(name, "ERROR")
    try:
        yield
    finally:
        if kept is None:
            del os.environ[name]


def _wait(processes: list) -> None:
    """Until all have ended, or one has failed and the others have had time to notice."""
    left = {process.sentinel: process for process in processes}
    failed = False
    while left:
        ended = connection.wait(list(left), GRACE if failed else None)
        if not ended:
            return
        for sentinel in ended:
            process = left.pop(cast(int, sentinel))
            process.join()
            failed = failed or process.exitcode != 0
        if any(process.exitcode == -signal.SIGINT for process in processes):
            raise KeyboardInterrupt


def _blame(folder: Path, codes: list[int | None]) -> BaseException:
    """Why the work failed: what a process said, else who was killed, else who has lost whom."""
    files = [folder / f"error-{number}" for number in range(len(codes))]
    errors = [pickle.loads(file.read_bytes()) for file in files if file.is_file()]
    lost = [error for error in errors if isinstance(error, LostProcess)]
    said = [error for error in errors if not isinstance(error, LostProcess)]
    killed = [
        f"process {number + 1} of {len(codes)} was killed (signal {-code})"
        for number, code in enumerate(codes)
        if code is not None and code < 0
    ]
    if said:
        return said[0]
    return (
        LostProcess(killed[0])
        if killed
        else lost[0]
        if lost
        else LostProcess(f"the processes ended with {codes}")
    )


def _work(number: int, devices: int, threads: int, folder: Path) -> None:
    """What a process that ``run`` started does."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # an interrupt ends it at once and without a word
    place = {
        "RANK": number,
        "WORLD_SIZE": devices,
        "LOCAL_RANK": number,
        "LOCAL_WORLD_SIZE": devices,
    }
    os.environ.update({name: str(value) for name, value in place.items()})
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # whatever the machine's name resolves to
    tqdm.set_lock(
        threading.RLock()
    )  # its usual lock is a semaphore of the system, which a killed process would leave
    torch.set_num_threads(threads)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), group(f"file://{folder / 'meeting'}"):
            function, arguments = pickle.loads((folder / "work").read_bytes())
            result = function(*arguments)
        if number == 0:
            (folder / "result").write_bytes(pickle.dumps((result, printed.getvalue())))
    except Exception as error:
        (folder / f"error-{number}").write_bytes(pickle.dumps(_told(error, number, devices)))
        sys.exit(1)


def _told(error: Exception, number: int, devices: int) -> Exception:
    """``error`` as it can be sent: one that a user can mend as it is, another with its traceback as
    text.
    """
    if isinstance(error, Refusal):
        return type(error)(str(error))
    if isinstance(error, OSError | MemoryError):
        return type(error)(one_line(error))
    return RuntimeError(
        f"process {number + 1} of {devices} failed:\n{''.join(traceback.format_exception(error))}"
    )
