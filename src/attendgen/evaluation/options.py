"""What an evaluation is asked for, and the record of how it was made."""

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from attendgen.config.instantiate import instantiate
from attendgen.config.saved import to_plain_dict
from attendgen.decoding.config import DecodingConfig
from attendgen.evaluation.tag import make_tag, require_tag
from attendgen.runs.checkpoint import read_checkpoint
from attendgen.runs.provenance import describe_environment
from attendgen.runs.run import Run
from attendgen.utils.devices import require_gpu
from attendgen.utils.errors import UserError

SEARCH = re.compile(r"(?:task\.)?decoding\.(\w+)=")

RECORDED = ("python", "packages", "commit", "changed", "own_packages", "device", "threads")  # of the environment


@dataclass(frozen=True)
class DynamicEvaluation:
    """The settings of dynamic evaluation: a learning rate, and the decay towards the trained weights per step."""

    lr: float
    decay: float = 0.0


@dataclass(frozen=True)
class EvaluationOptions:
    """What is evaluated and where it is written.

    Attributes:
        split: of the data.
        overrides: changes of the run's config, as `key=value`.
        out: the folder of all files; the run directory unless given.
        tag: a part of the names of the files; made from the overrides unless given, see `make_tag`.
        texts: score a language model on these files; the split is then called "text".
        dynamic: score a language model by dynamic evaluation, too.
        attention: an `.npz` file for the attention weights of the split.
        boxes: compare the attention of captions with these boxes of words: a JSON file, or "own", see
            `make_pointing_game`.
        device, precision: see `attendgen.utils.devices` and `precision`.
        devices: GPUs, or processes on the CPU, that share the split.
        compiles: replay decoding steps as CUDA graphs.
    """

    split: str = "val"
    overrides: Sequence[str] = ()
    out: Path | None = None
    tag: str | None = None
    texts: Sequence[Path] = ()
    dynamic: DynamicEvaluation | None = None
    attention: Path | None = None
    device: str = "auto"
    precision: str = "32"
    devices: int = 1
    boxes: str | None = None
    compiles: bool = False

    def require_devices(self, device: torch.device) -> None:
        """Check that the devices can be used as they are asked for.

        Raises:
            UserError: there are fewer, another option needs one, or decoding is compiled without a GPU.
        """
        if self.compiles:
            require_gpu("--compile", device)
        option, count = f"--devices {self.devices}", torch.cuda.device_count()
        if self.devices < 1:
            raise UserError(f"{option}: expected a number from 1")
        if self.devices == 1:
            return
        if ":" in self.device:
            raise UserError(f"{option}: excludes --device {self.device}; use cuda or cpu")
        if device.type == "cuda" and self.devices > count:
            raise UserError(f"{option}: PyTorch finds {count} GPUs; use as many at most")
        single = {
            "--save-attention": self.attention,
            "--dynamic-eval-lr": self.dynamic,
            f"attention={self.boxes}": self.boxes,
        }
        for name, given in single.items():
            if given is not None:
                raise UserError(f"{option}: {name} needs one device; leave one of them out")

    def make_label(self, run: Run, config: DictConfig) -> str:
        """Return the split with the tag, as in the names of the files: "val", or "val.beam5".

        Args:
            config: the run's config with the overrides.

        Raises:
            UserError: the tag cannot be a part of a file's name.
        """
        if self.tag is not None:
            tag = require_tag(self.tag)
        else:
            dynamic = self.dynamic
            more: dict[str, Any] = {} if dynamic is None else {"dynamic": dynamic.lr}
            more |= {"decay": dynamic.decay} if dynamic is not None and dynamic.decay else {}
            more |= {self.precision: ""} if self.precision != "32" else {}
            tag = make_tag(run.config, config, list(self.overrides), **more)
        split = "text" if self.texts else self.split
        return f"{split}.{tag}" if tag else split


def settle_search(run: Run, overrides: list[str]) -> DictConfig:
    """Return a run's config with changes; those of the search turn off what they exclude, as for `attendgen generate`.

    Raises:
        UserError: a change is wrong, or two exclude each other.
    """
    config = run.override(overrides)
    own, settings = get_search(run.config), get_search(config)
    names = [found[1] for key in overrides if (found := SEARCH.match(key))]
    if not names or not isinstance(own, DictConfig) or not isinstance(settings, DictConfig):
        return config
    saved = instantiate(own, "decoding")
    if isinstance(saved, DecodingConfig):
        given = {name: settings[name] for name in names if settings.get(name) is not None}
        for name, value in saved.turn_off(given).items():
            if name not in names and settings.get(name) != value:
                OmegaConf.update(settings, name, value, force_add=True)
    return config


def require_own_vocabulary(run: Run, config: DictConfig, fields: Sequence[str]) -> None:
    """Check that changes of a run's config leave the settings alone that its vocabulary was built with.

    Args:
        fields: names of these settings in `data`.

    Raises:
        UserError: they do not.
    """
    for name in fields:
        own, given = (OmegaConf.select(settings.data, name) for settings in (run.config, config))
        if own != given:
            shown = "null" if given is None else given
            raise UserError(
                f"data.{name}={shown}: belongs to the vocabulary, which was built with {name}={own}; leave it out, or "
                "train another run with it"
            )


def get_search(config: DictConfig) -> object:
    """Return the settings of the search by which a task decodes."""
    own = OmegaConf.select(config, "task.decoding")
    return OmegaConf.select(config, "decoding") if own is None else own


BOXES = "attention="


def take_boxes(overrides: Sequence[str]) -> tuple[str | None, list[str]]:
    """Return the value of `attention=`, which is not a change of the config, and the other arguments.

    Raises:
        UserError: it is given twice, or empty.
    """
    given = [argument.removeprefix(BOXES) for argument in overrides if argument.startswith(BOXES)]
    if len(given) > 1 or "" in given:
        raise UserError("attention: expected one value: attention=FILE.json, or attention=own")
    rest = [argument for argument in overrides if not argument.startswith(BOXES)]
    return (given[0] if given else None), rest


def describe_evaluation(
    run: Run, config: DictConfig, options: EvaluationOptions, label: str, seconds: float
) -> dict[str, Any]:
    """Return what `settings_<split>.json` says of an evaluation, as plain data."""
    split, _, tag = label.partition(".")
    decoding: Any = get_search(config)
    checkpoint = run.checkpoint
    if run.folder is not None and checkpoint.is_relative_to(run.folder):
        checkpoint = checkpoint.relative_to(run.folder)
    dynamic = options.dynamic
    environment = describe_environment(run.folder or run.checkpoint.parent, to_plain_dict(config))
    return {
        "split": split,
        "tag": tag,
        "changes": list(options.overrides),
        "decoding": OmegaConf.to_container(decoding, resolve=True) if OmegaConf.is_config(decoding) else None,
        **({"texts": [str(path) for path in options.texts]} if options.texts else {}),
        "precision": options.precision,
        **({"compile": True} if options.compiles else {}),
        **({} if options.boxes is None else {"boxes": Path(options.boxes).name}),
        **({} if dynamic is None else {"dynamic": {"lr": dynamic.lr, "decay": dynamic.decay}}),
        "checkpoint": str(checkpoint),
        "step": _read_step(run.checkpoint),
        "seconds": round(seconds, 2),
        "finished": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        **{name: environment[name] for name in RECORDED if name in environment},
    }


def _read_step(checkpoint: Path) -> int | None:
    """Return the step after which a checkpoint was saved; None for the weights of a bundled model."""
    if checkpoint.suffix != ".ckpt":
        return None
    step = read_checkpoint(checkpoint, mapped=True).get("global_step")
    return step if isinstance(step, int) else None
