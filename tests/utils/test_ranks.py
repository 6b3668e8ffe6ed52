"""The variables of torchrun, srun and Lightning."""

import pytest

from attendgen.utils.ranks import count_launched, get_launch, get_rank, name_launch

VARIABLES = (
    *("RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID"),
    *("SLURM_NTASKS", "SLURM_PROCID", "SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_JOB_NAME"),
)
TORCHRUN = {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "TORCHELASTIC_RUN_ID": "mine"}
SRUN = {"SLURM_NTASKS": "8", "SLURM_PROCID": "5", "SLURM_JOB_ID": "42", "SLURM_STEP_ID": "0"}


@pytest.mark.parametrize(
    ("variables", "rank", "world", "name"),
    [
        ({}, 0, None, None),
        (TORCHRUN, 5, 8, "torchrun_mine"),
        ({**TORCHRUN, "RANK": "0", "LOCAL_RANK": "0"}, 0, 8, "torchrun_mine"),
        ({**TORCHRUN, "RANK": "4", "LOCAL_RANK": "0", "TORCHELASTIC_RUN_ID": "none"}, 4, 8, None),
        (SRUN, 5, 8, "slurm_42_0"),
        ({**SRUN, "SLURM_JOB_NAME": "interactive"}, 0, None, None),  # Lightning starts the processes
        ({**SRUN, "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, 0, None, None),
        ({name: value for name, value in SRUN.items() if "STEP" not in name}, 0, None, None),  # a batch script
        ({"LOCAL_RANK": "1", "NODE_RANK": "0", "WORLD_SIZE": "2"}, 1, None, None),  # started by Lightning
        ({"LOCAL_RANK": "0"}, 0, None, None),  # the process that Lightning has started others from
        ({"NODE_RANK": "1"}, 1, None, None),
    ],
)
def test_launchers_say_which_process_this_is(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], rank: int, world: int | None, name: str | None
) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    assert (get_rank(), count_launched(), name_launch()) == (rank, world, name)
    assert (get_launch() is None) == (world is None)


def test_two_launches_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    launches = set()
    for port in ("1", "2"):
        for rank in ("0", "1"):
            for variable, value in {**TORCHRUN, "RANK": rank, "MASTER_PORT": port}.items():
                monkeypatch.setenv(variable, value)
            launches.add(get_launch())
    assert len(launches) == 2
