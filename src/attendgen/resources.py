"""Files that travel with the package: configs and the toy pairs, in the wheel or in the source tree."""

from pathlib import Path

from omegaconf import OmegaConf

INSTALLED = Path(__file__).parent / "resources"
SOURCE = Path(__file__).parents[2]


def conf_dir() -> Path:
    """The folder of Hydra configs."""
    return INSTALLED / "conf" if INSTALLED.is_dir() else SOURCE / "conf"


def bundled_file(name: str) -> str:
    """The path of a data file that travels with the package."""
    return str(INSTALLED / name if INSTALLED.is_dir() else SOURCE / "data" / name)


def register_resolvers() -> None:
    """Let configs say ${bundled:toy_chat.tsv}."""
    OmegaConf.register_new_resolver("bundled", bundled_file, replace=True)
