"""Several processes on the CPU that find each other as those that torchrun or srun starts."""

import multiprocessing
import os
import pickle
import socket
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch

Name = Callable[[int, int], dict[str, str]]

TWO = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]


def find_free_port() -> str:
    """Return a port that no other process uses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def name_by_torchrun(rank: int, world: int) -> dict[str, str]:
    """Return the variables by which torchrun tells a process which one it is."""
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
    return {"TORCHELASTIC_RUN_ID": "mine", **{name: str(number) for name, number in numbers.items()}}


def name_by_srun(rank: int, world: int) -> dict[str, str]:
    """Return the variables by which srun tells a process on one machine which one it is."""
    task = {"PROCID": rank, "LOCALID": rank, "NODEID": 0, "NTASKS": world, "NTASKS_PER_NODE": world, "NNODES": 1}
    job = {"JOB_ID": 42, "STEP_ID": 7, "JOB_NAME": "training", "NODELIST": "127.0.0.1"}
    return {f"SLURM_{name}": str(value) for name, value in {**task, **job}.items()}


def run_ranks(
    function: Callable[[int], Any], world: int = 2, timeout: float = 100, name: Name = name_by_torchrun
) -> list[Any]:
    """Call a function with the rank in `world` forked processes, and return what it returns in each.

    A forked process has what this one has imported, so that it starts at once.

    Args:
        name: returns the variables of a launcher.
    """
    context = multiprocessing.get_context("fork")
    ends, processes = [], []
    port = find_free_port()
    for rank in range(world):
        here, there = context.Pipe(duplex=False)
        variables = {**name(rank, world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        processes.append(context.Process(target=call, args=(function, rank, there, variables), daemon=True))
        processes[-1].start()
        there.close()
        ends.append(here)
    results = []
    try:
        for end in ends:
            assert end.poll(timeout), "a process does not answer"
            error, result = pickle.loads(end.recv_bytes())
            assert error is None, error
            results.append(result)
    finally:
        for process in processes:
            process.join(10)
            process.kill()
    return results


def call(function: Callable[[int], Any], rank: int, end: Connection, variables: dict[str, str]) -> None:
    """Call a function in a forked process, and send what it returns or its traceback."""
    torch.set_num_threads(1)  # the threads of the parent are not forked
    os.environ.update(variables)
    try:
        answer = (None, function(rank))
    except BaseException:
        answer = (traceback.format_exc(), None)
    end.send_bytes(pickle.dumps(answer))  # `send` would pass on tensors by memory that ends with this process


def join_group(rank: int, world: int = 2) -> None:
    """Let the processes of `run_ranks` talk to each other."""
    torch.distributed.init_process_group("gloo", rank=rank, world_size=world)
