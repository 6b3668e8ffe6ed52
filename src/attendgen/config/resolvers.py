"""Functions that configs may use."""

from omegaconf import OmegaConf

from attendgen.utils.resources import bundled_file


def register_resolvers() -> None:
    """Register the functions.

    ${bundled:toy_chat.tsv} is the path of a bundled file, ${direction:max} is Optuna's word, and ${or_custom:NAME} is
    the name of the experiment, or "custom" without one.
    """
    OmegaConf.register_new_resolver("bundled", bundled_file, replace=True)
    OmegaConf.register_new_resolver("direction", get_direction, replace=True)
    OmegaConf.register_new_resolver("or_custom", lambda name: name or "custom", replace=True)


def get_direction(mode: str | None) -> str:
    """Return Optuna's word for "min" or "max".

    Raises:
        ValueError: it is neither.
    """
    directions = {"min": "minimize", "max": "maximize"}
    if mode not in directions:
        raise ValueError(f"monitor.mode={mode}: a search needs min or max, and monitor.metric")
    return directions[mode]
