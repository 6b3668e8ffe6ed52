"""Files that travel with the package, in the wheel or in the source tree: configs, toy pairs, bundled models."""

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


def bundled_models() -> dict[str, Path]:
    """The folders of the models that travel with the package, by name."""
    folder = INSTALLED / "models" if INSTALLED.is_dir() else SOURCE / "data" / "models"
    return {path.parent.name: path.parent for path in sorted(folder.glob("*/config.yaml"))}


def register_resolvers() -> None:
    """Let configs say ${bundled:toy_chat.tsv}, and ${direction:max} in Optuna's words."""
    OmegaConf.register_new_resolver("bundled", bundled_file, replace=True)
    OmegaConf.register_new_resolver("direction", {"min": "minimize", "max": "maximize"}.__getitem__, replace=True)
