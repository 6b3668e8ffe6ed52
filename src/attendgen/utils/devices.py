"""The device on which a trained model computes."""

import torch

from attendgen.utils.errors import UserError


def find_device(name: str | torch.device) -> torch.device:
    """Return a device by its name: "cpu", "cuda" or "cuda:N"; "auto" is a GPU if there is one, else the CPU.

    Raises:
        UserError: the name is unknown, or there is no such GPU.
    """
    name = str(name)
    count = torch.cuda.device_count()
    kind, _, number = name.partition(":")
    if name == "auto":
        return torch.device("cuda:0" if count else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    if kind != "cuda" or (name != "cuda" and not number.isdecimal()):
        raise UserError(f"--device {name}: unknown; choose auto, cpu, cuda or cuda:N")
    if not count:
        raise UserError(f"--device {name}: PyTorch finds no GPU; use cpu or auto")
    if int(number or 0) >= count:
        raise UserError(f"--device {name}: there are {count} GPUs, numbered from 0; use cuda:{count - 1} at most")
    return torch.device("cuda", int(number or 0))


def require_gpu(option: str, device: torch.device) -> None:
    """Check that an option which works on GPUs alone is given for one.

    Raises:
        UserError: the device is not a GPU.
    """
    if device.type != "cuda":
        raise UserError(f"{option}: needs a GPU; use --device cuda, or leave it out")
