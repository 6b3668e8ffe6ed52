"""Files that come with the package, in the wheel or in the source tree."""

from pathlib import Path

INSTALLED = Path(__file__).parents[1] / "resources"
SOURCE = Path(__file__).parents[3]


def get_conf_dir() -> Path:
    """Return the folder of Hydra configs."""
    return INSTALLED / "conf" if INSTALLED.is_dir() else SOURCE / "conf"


def get_template(name: str) -> Path:
    """Return the folder of a template."""
    return (INSTALLED if INSTALLED.is_dir() else SOURCE) / "templates" / name


def bundled_file(name: str) -> str:
    """Return the path of a data file that comes with the package."""
    return str(INSTALLED / name if INSTALLED.is_dir() else SOURCE / "data" / name)


def bundled_models() -> dict[str, Path]:
    """Return the folders of the bundled models, by name."""
    folder = INSTALLED / "models" if INSTALLED.is_dir() else SOURCE / "data" / "models"
    return {path.parent.name: path.parent for path in sorted(folder.glob("*/config.yaml"))}
