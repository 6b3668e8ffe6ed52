"""Texts, images, pages and settings in the loggers that can show them."""

import html
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from attendgen.utils.files import write_text


@runtime_checkable
class TextLogger(Protocol):
    """A logger of the user's own that shows texts."""

    def show_text(self, name: str, text: str, step: int) -> None:
        """Show a text under a name, at a training step."""


@runtime_checkable
class ImageLogger(Protocol):
    """A logger of the user's own that shows images."""

    def show_image(self, name: str, pixels: UInt8[np.ndarray, "height width 3"], step: int) -> None:
        """Show an image under a name, at a training step."""


@runtime_checkable
class PageLogger(Protocol):
    """A logger of the user's own that shows HTML pages."""

    def show_page(self, name: str, page: str, step: int) -> None:
        """Show an HTML page under a name, at a training step."""


SHOWING = (TextLogger, ImageLogger, PageLogger, TensorBoardLogger, WandbLogger, MLFlowLogger)


def can_show(logger: Any) -> bool:
    """Return whether a logger shows texts, images or pages."""
    return isinstance(logger, SHOWING)


def show_text(logger: Any, name: str, text: str, step: int) -> None:
    """Show a text in a logger; one that cannot is left out."""
    if isinstance(logger, TextLogger):
        logger.show_text(name, text, step)
    elif isinstance(logger, TensorBoardLogger):
        logger.experiment.add_text(name, text, step)
    elif isinstance(logger, WandbLogger):
        import wandb

        page = f"<pre>{html.escape(text)}</pre>"
        logger.experiment.log({name: wandb.Html(page, inject=False), "trainer/global_step": step})
    elif isinstance(logger, MLFlowLogger):
        logger.experiment.log_text(logger.run_id, text, f"{name}/{step}.txt")


def show_image(logger: Any, name: str, pixels: UInt8[np.ndarray, "height width 3"], step: int) -> None:
    """Show an image in a logger; one that cannot is left out."""
    if isinstance(logger, ImageLogger):
        logger.show_image(name, pixels, step)
    elif isinstance(logger, TensorBoardLogger):
        logger.experiment.add_image(name, pixels, step, dataformats="HWC")
    elif isinstance(logger, WandbLogger):
        logger.log_image(name, [pixels], step)
    elif isinstance(logger, MLFlowLogger):
        logger.experiment.log_image(logger.run_id, pixels, f"{name}/{step}.png")


def show_page(logger: Any, name: str, page: str, step: int) -> None:
    """Show an HTML page in a logger; one that cannot is left out.

    TensorBoard shows no pages: the latest one is a file beside its numbers.
    """
    if isinstance(logger, PageLogger):
        logger.show_page(name, page, step)
    elif isinstance(logger, TensorBoardLogger):
        write_text(Path(logger.log_dir) / f"{name}.html", page)
    elif isinstance(logger, WandbLogger):
        import wandb

        logger.experiment.log({f"{name}_page": wandb.Html(page, inject=False), "trainer/global_step": step})
    elif isinstance(logger, MLFlowLogger):
        logger.experiment.log_text(logger.run_id, page, f"{name}/{step}.html")


def log_settings(logger: Logger, settings: dict[str, Any]) -> None:
    """Log the settings of a run, dotted names and values, in a logger other than TensorBoard's.

    MLflow refuses to change a setting: a resumed run keeps those that it began with.
    """
    if isinstance(logger, MLFlowLogger):
        known = logger.experiment.get_run(logger.run_id).data.params
        settings = {name: value for name, value in settings.items() if name not in known}
    logger.log_hyperparams(settings)
