"""Functions that configs may use."""

import datetime

from omegaconf import OmegaConf

from attendgen.utils.ranks import name_launch
from attendgen.utils.resources import bundled_file


def register_resolvers() -> None:
    """Register the functions.

    ${bundled:toy_chat.tsv} is the path of a bundled file, ${direction:max} is Optuna's word, ${or_custom:NAME} is the
    name of the experiment, or "custom" without one, and ${start:} names the folder of a run.
    """
    OmegaConf.register_new_resolver("bundled", bundled_file, replace=True)
    OmegaConf.register_new_resolver("direction", get_direction, replace=True)
    OmegaConf.register_new_resolver("or_custom", lambda name: name or "custom", replace=True)
    OmegaConf.register_new_resolver("start", name_start, replace=True, use_cache=True)


def name_start() -> str:
    """Return the time to the microsecond, because runs that start together may not share a folder.

    The processes of a launcher, which start at different times, have its id instead.
    """
    return name_launch() or f"{datetime.datetime.now():%Y-%m-%d_%H-%M-%S-%f}"


def get_direction(mode: str | None) -> str:
    """Return Optuna's word for "min" or "max".

    Raises:
        ValueError: it is neither.
    """
    directions = {"min": "minimize", "max": "maximize"}
    if mode not in directions:
        raise ValueError(f"monitor.mode={mode}: a search needs min or max, and monitor.metric")
    return directions[mode]
