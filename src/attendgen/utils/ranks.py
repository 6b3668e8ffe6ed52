"""Which of the processes of a run this is, as launchers say it by environment variables before torch is imported."""

import os

NOT_LAUNCHED = ("bash", "interactive")  # names of SLURM jobs in which Lightning starts processes itself
TORCHRUN = ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RESTART_COUNT")
SRUN = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")


def is_under_srun() -> bool:
    """Return whether this is one of several processes that srun has started; a batch script has no SLURM_STEP_ID."""
    several = int(os.environ.get("SLURM_NTASKS", "1")) > 1 and {"SLURM_PROCID", "SLURM_STEP_ID"} <= os.environ.keys()
    return several and os.environ.get("SLURM_JOB_NAME") not in NOT_LAUNCHED


def get_rank() -> int:
    """Return the number of this process among those of a run; 0 for the first, which alone reports and writes."""
    if "RANK" in os.environ:
        return int(os.environ["RANK"])
    if is_under_srun():
        return int(os.environ["SLURM_PROCID"])
    # of the processes that Lightning starts; the first of a further machine has NODE_RANK alone
    return int(os.environ.get("LOCAL_RANK", "0")) or int(os.environ.get("NODE_RANK", "0"))


def get_launch() -> str | None:
    """Return what the processes that torchrun or srun has started together have in common; None without a launcher."""
    if "RANK" in os.environ:
        return " ".join(["torchrun", *(os.environ.get(name, "") for name in TORCHRUN)])
    if is_under_srun():
        return " ".join(["srun", *(os.environ.get(name, "") for name in SRUN)])
    return None


def count_launched() -> int | None:
    """Return the number of processes that a launcher has started; None without a launcher."""
    if get_launch() is None:
        return None
    return int(os.environ.get("WORLD_SIZE" if "RANK" in os.environ else "SLURM_NTASKS", "1"))


def name_launch() -> str | None:
    """Return a name that all processes of a launch give their run; None if the launcher has no id, or there is none."""
    if "RANK" in os.environ:
        name = os.environ.get("TORCHELASTIC_RUN_ID", "none")  # torchrun's own word for no id
        return None if name == "none" else f"torchrun_{name}"
    if is_under_srun():
        return f"slurm_{os.environ.get('SLURM_JOB_ID', '')}_{os.environ.get('SLURM_STEP_ID', '0')}"
    return None
