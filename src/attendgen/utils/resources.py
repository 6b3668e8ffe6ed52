"""Files that travel with the package, in the wheel or in the source tree: configs, toy pairs, bundled models."""

from pathlib import Path

INSTALLED = Path(__file__).parents[1] / "resources"


SOURCE = Path(__file__).parents[3]


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
