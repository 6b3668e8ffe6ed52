"""What Hydra and a sweep write down in a run directory."""

from pathlib import Path

from attendgen.files import read_yaml

OVERRIDES = Path(".hydra", "overrides.yaml")
TRIAL = Path(".hydra", "trial.yaml")  # a sweep's trial: what its own process reads
ERROR = Path("error.json")  # why a trial failed


def given_arguments(folder: Path) -> list[str]:
    """A run's command line without Hydra's own settings; empty if Hydra has not been here.

    Raises:
        UserError: the file is broken.
    """
    path = folder / OVERRIDES
    return [str(argument) for argument in read_yaml(path) or []] if path.is_file() else []


def read_overrides(folder: Path) -> dict[str, str]:
    """The settings given on a run's command line."""
    pairs = (argument.partition("=") for argument in given_arguments(folder))
    return {key.lstrip("+~"): value for key, _, value in pairs}
