"""A run directory: what `train` leaves and every other command reads."""

import contextlib
import dataclasses
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from safetensors import safe_open

from attendgen.config.instantiate import instantiate
from attendgen.config.literals import expand_home
from attendgen.config.overrides import override_config
from attendgen.config.saved import read_config, to_plain_dict
from attendgen.config.trust import require_trusted
from attendgen.data.captions.features import get_image_encoder
from attendgen.runs.checkpoint import read_checkpoint
from attendgen.runs.folder import names_bundled, require_run
from attendgen.runs.layout import BEST, CHECKPOINTS, CONFIG, LAST, RECORD, VOCABULARY, WEIGHTS
from attendgen.runs.weights import load_weights
from attendgen.text.vocabulary import AnyVocabulary, load_vocabulary, vocabulary_from_dict
from attendgen.utils.errors import UserError
from attendgen.utils.files import read_yaml
from attendgen.utils.resources import bundled_models

log = logging.getLogger(__name__)

NO_WEIGHTS = {"weights": None, "pretrained": False}  # of an encoder that does not say how it is built without weights
DATA_VARIABLE = "ATTENDGEN_DATA"  # where data sets are, as in conf/paths


@dataclass
class Run:
    """A trained model's config, vocabulary and weights.

    Attributes:
        folder: where scores are written; None for a checkpoint that is opened by itself.
        checkpoint: the file of the weights.
    """

    folder: Path | None
    checkpoint: Path
    config: DictConfig = dataclasses.field(repr=False)
    vocabulary: AnyVocabulary = dataclasses.field(repr=False)

    @classmethod
    def find(cls, name: str | Path, trained: bool = True) -> "Run":
        """Open a run directory, a `.ckpt` file, or a bundled model by its name.

        Args:
            trained: require a checkpoint; false opens a run that was stopped before its first one.

        Raises:
            UserError: it does not exist, or a file of it is missing or broken.
        """
        require_run(name)
        path = Path(expand_home(str(name)))
        if names_bundled(name):
            path = bundled_models()[str(name)]
            config = read_config(read_yaml(path / CONFIG), path / CONFIG)
            config.paths.data = os.environ.get(DATA_VARIABLE, config.paths.data)
            outputs = Path(config.paths.run)  # the package itself is not written to
            return cls(outputs, path / WEIGHTS, config, load_vocabulary(path / VOCABULARY))
        if path.is_file():
            record = read_checkpoint(path, mapped=True)[RECORD]
            config = read_config(record["config"], path)
            return cls(None, path, config, vocabulary_from_dict(record["vocabulary"], path))
        config = read_config(read_yaml(path / CONFIG), path / CONFIG)
        vocabulary = load_vocabulary(path / VOCABULARY)
        checkpoint = path / CHECKPOINTS / BEST
        if not checkpoint.is_file():
            checkpoint = path / CHECKPOINTS / LAST
        if trained and not checkpoint.is_file():
            raise UserError(
                f"{path / CHECKPOINTS / BEST}: no such checkpoint; train on with attendgen train resume={path}"
            )
        if trained:
            restore_settings(config, checkpoint)
        return cls(path, checkpoint, config, vocabulary)

    @property
    def name(self) -> str:
        """What the run is called: the name of its folder or bundled model, without a path."""
        if self.checkpoint.name == WEIGHTS:
            return self.checkpoint.parent.name
        return self.checkpoint.stem if self.folder is None else self.folder.resolve().name

    @property
    def family(self) -> str:
        """The family of the model, see `attendgen.inference.load`.

        Raises:
            UserError: the config does not name it.
        """
        family = self.config.get("family")
        if not isinstance(family, str):
            raise UserError(f"{self.folder or self.checkpoint}: config: field 'family' is missing; copy the run again")
        return family

    def override(self, overrides: list[str]) -> DictConfig:
        """Return the config with `key=value` changes.

        Raises:
            UserError: a change is not of that form, or the key does not exist.
        """
        return override_config(self.config, overrides)

    def load_model(self, config: DictConfig | None = None) -> torch.nn.Module:
        """Build the model with its trained weights, in evaluation mode on the CPU.

        Args:
            config: of the model; the run's own unless given.

        Raises:
            UserError: the checkpoint is missing, broken, or of another model.
        """
        config = config or self.config
        is_bundled = self.checkpoint.suffix == ".safetensors"
        state = {} if is_bundled else self._read_state()
        settings = config.model.copy()
        has_encoder = isinstance(settings.get("encoder"), DictConfig)
        # a package, not the file, may hold a bundled model's encoder
        in_package = is_bundled and has_encoder and not _holds_encoder(self.checkpoint)
        if has_encoder and not in_package:
            skip_pretrained_weights(settings.encoder)
        model = instantiate(settings, "model", **self.vocabulary.sizes())
        try:
            if is_bundled:
                with detach_encoder(model) if in_package else contextlib.nullcontext():
                    load_weights(model, self.checkpoint)
            else:
                model.load_state_dict(state)
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise UserError(
                f"{self.checkpoint}: weights of another model: {reason}; "
                "give the checkpoint of this run, or leave model.* as it was trained"
            ) from error
        return model.eval()

    def _read_state(self) -> dict[str, torch.Tensor]:
        """Return the model's weights in the checkpoint."""
        checkpoint = read_checkpoint(self.checkpoint)
        family = checkpoint[RECORD]["config"].get("family")
        if family != self.family:
            raise UserError(
                f"{self.checkpoint}: a checkpoint of family {family}, but the run's is {self.family}; "
                "give the checkpoint of this run"
            )
        return select_model(checkpoint["state_dict"])


def select_model(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the model's part of a task's state dict."""
    return {name.removeprefix("model."): value for name, value in state.items() if name.startswith("model.")}


def restore_settings(config: DictConfig, checkpoint: Path) -> None:
    """Give a config the settings that its checkpoint was trained with, if the run was resumed with others.

    These are the settings of the model, and of the task except how it optimizes and decodes.

    Raises:
        UserError: the checkpoint is broken, or names code that is not trusted.
    """
    source = read_config(read_checkpoint(checkpoint, mapped=True)[RECORD]["config"], checkpoint)
    if source.get("family") != config.get("family"):
        return  # of another family, which `load_model` reports
    own, now = _get_trained_settings(source), _get_trained_settings(config)
    different = [field for field in dict.fromkeys([*own, *now]) if own.get(field) != now.get(field)]
    if not different:
        return
    OmegaConf.set_struct(config, False)
    for field in different:
        group, _, name = field.partition(".")
        if field in own:
            config[group][name] = own[field]
        else:
            del config[group][name]
    require_trusted(to_plain_dict(config), checkpoint)
    log.warning("%s: trained with other settings than config.yaml's; its own are used: %s", checkpoint, different)


def _get_trained_settings(config: DictConfig) -> dict[str, Any]:
    """Return the settings that trained weights belong to, by dotted field."""
    data = to_plain_dict(config)
    untrained = ("optimizer", "schedule", "decoding", "metrics", "tokenize")
    task = {name: value for name, value in data["task"].items() if name not in untrained}
    groups = {"model": data["model"], "task": task}
    return {f"{group}.{name}": value for group, settings in groups.items() for name, value in settings.items()}


def skip_pretrained_weights(encoder: DictConfig) -> None:
    """Change an encoder's settings so that it reads and fetches no weights when it is made.

    Its class may say how, by `without_weights`; else `weights` and `pretrained` are the usual fields.
    """
    declared = None
    with contextlib.suppress(Exception):  # of a class that does not exist, which is reported when it is made
        declared = getattr(get_object(encoder["_target_"]), "without_weights", None)
    usual = {name: value for name, value in NO_WEIGHTS.items() if name in encoder}
    OmegaConf.set_struct(encoder, False)
    encoder.update(usual if declared is None else declared)


def _holds_encoder(path: Path) -> bool:
    """Return whether the file of a bundled captioner holds its encoder."""
    with safe_open(path, "pt") as file:
        return any(name.startswith("encoder.") for name in file.keys())  # noqa: SIM118  # not a mapping


def convert_precision(model: torch.nn.Module, precision: str) -> torch.nn.Module:
    """Convert a model's weights to one of `attendgen.utils.precision`.

    An encoder of images keeps single precision, so that its features equal those of a cache.
    """
    if precision == "bf16":
        with contextlib.nullcontext() if get_image_encoder(model) is None else detach_encoder(model):
            model.bfloat16()
    return model


@contextlib.contextmanager
def detach_encoder(model: torch.nn.Module) -> Iterator[None]:
    """Remove a captioner's encoder inside the block."""
    encoder, model.encoder = model.encoder, torch.nn.Identity()
    try:
        yield
    finally:
        model.encoder = encoder
