"""A run directory: what `train` leaves and every other command reads."""

import contextlib
import datetime
import inspect
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import lightning
import torch
import yaml
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from safetensors import safe_open

from attendgen.checkpointing import LAST, RECORD, read_checkpoint
from attendgen.construction import construct
from attendgen.data.captions import CaptionDataModule
from attendgen.data.features import fingerprint
from attendgen.errors import UserError
from attendgen.files import read_text, replacing, write_json, write_text
from attendgen.records import given_arguments
from attendgen.resources import SOURCE, bundled_models, register_resolvers
from attendgen.vocabulary import AnyVocabulary, load_vocabulary, save_vocabulary, vocabulary_from_dict
from attendgen.weights import load_weights, save_weights

WEIGHTS = "weights.safetensors"  # a bundled model's
BUNDLED = ("name", "seed", "steps", "epochs", "validate_every", "monitor", "decoding", "data", "model", "task")

SPLITS = ("train", "val", "dev", "test")

NO_WEIGHTS = {"weights": None, "pretrained": False}  # the encoders' fields

# the saved config is resolved: what was a reference to another field must follow a change of that field
COPIES = (
    ("task.search", "decoding"),
    ("data.seed", "seed"),
    ("trainer.max_steps", "steps"),
    ("trainer.max_epochs", "epochs"),
    ("trainer.check_val_every_n_epoch", "validate_every"),
    ("task.schedule.steps", "steps"),
)


# files and folders in a config: on a command line they are named from where the user stands
PATHS = ("data.root", "data.train", "data.val", "data.test", "paths.cache")


def plain(config: DictConfig) -> dict[str, Any]:
    """A config with its interpolations resolved, as plain data."""
    data = OmegaConf.to_container(config, resolve=True)
    assert isinstance(data, dict)
    return {str(key): value for key, value in data.items()}


def environment(folder: Path) -> dict[str, Any]:
    """Versions, commit, devices and command of the run in a folder."""
    given = given_arguments(folder) or sys.argv[1:]  # a sweep's trial is started by another command
    names = [re.split(r"[^\w.-]", requirement)[0] for requirement in metadata.requires("attendgen") or []]
    versions = {}
    for package in ("attendgen", "omegaconf", *names):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "commit": git("rev-parse", "HEAD"),
        "changed": None if (changes := git("status", "--porcelain", "--untracked-files=no")) is None else bool(changes),
        "device": ", ".join(gpus) or processor(),
        "threads": torch.get_num_threads(),
        "command": ["attendgen", "train", *given],
        "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def processor() -> str:
    """The processor's name as far as the system tells it."""
    with contextlib.suppress(OSError):
        found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
        if found:
            return found[1]
    return platform.processor() or platform.machine()


def git(*arguments: str) -> str | None:
    """What git says of the source tree; None of an installed package."""
    if (SOURCE / ".git").exists():
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            answer = subprocess.check_output(["git", *arguments], cwd=SOURCE, text=True, stderr=subprocess.DEVNULL)
            return answer.strip()
    return None


def save_run(folder: Path, config: dict[str, Any], vocabulary: AnyVocabulary) -> None:
    """Write what a run needs besides its weights."""
    save_vocabulary(vocabulary, folder / "vocabulary.json")
    write_json(folder / "environment.json", environment(folder))
    save_config(folder, config)


def save_config(folder: Path, config: dict[str, Any]) -> None:
    """Write a run's settings, those it was begun or last continued with."""
    write_text(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))


def save_made(folder: Path, config: DictConfig, vocabulary: AnyVocabulary, model: torch.nn.Module) -> None:
    """Write a run directory of a model that was made without training; what its task keeps beside it, as an
    estimator's baseline, is new.

    Raises:
        UserError: the folder holds a run.
    """
    require_new(folder)
    config.paths.run = str(folder.absolute())
    config.paths.cache = str(Path(config.paths.cache).absolute())
    record = plain(config)
    state = construct(config.task, model=model, vocabulary=vocabulary).state_dict()
    save_run(folder, record, vocabulary)
    with replacing(folder / "checkpoints" / "best.ckpt") as temporary:
        torch.save({RECORD: {"config": record, "vocabulary": vocabulary.to_dict()}, "state_dict": state}, temporary)


def require_new(folder: Path) -> None:
    """
    Raises:
        UserError: the folder holds a run.
    """
    if (folder / "config.yaml").exists():
        raise UserError(f"{folder}: holds a run already; give another --out")


@dataclass
class Run:
    """A trained model's config, vocabulary and weights.

    `folder` is where scores of it are written; a lone checkpoint has none.
    """

    folder: Path | None
    checkpoint: Path
    config: DictConfig
    vocabulary: AnyVocabulary

    @classmethod
    def find(cls, name: str | Path, trained: bool = True) -> "Run":
        """Open a run directory, a `.ckpt` file, or a bundled model by its name.

        A directory whose run was stopped before its first checkpoint will do if it need not be `trained`.

        Raises:
            UserError: it does not exist, or a file of it is missing or broken.
        """
        path = Path(name)
        if not path.exists() and str(name) in (bundled := bundled_models()):
            register_resolvers()
            path = bundled[str(name)]
            config = OmegaConf.create(yaml.safe_load(read_text(path / "config.yaml")))
            assert isinstance(config, DictConfig)
            outputs = Path(config.paths.run)  # the package itself is not written to
            return cls(outputs, path / WEIGHTS, config, load_vocabulary(path / "vocabulary.json"))
        if path.is_file():
            record = read_checkpoint(path)[RECORD]
            config = OmegaConf.create(record["config"])
            return cls(None, path, config, vocabulary_from_dict(record["vocabulary"], path))
        if not path.is_dir():
            raise UserError(f"{path}: no such run directory, checkpoint or bundled model")
        text = read_text(path / "config.yaml")
        try:
            config = OmegaConf.create(yaml.safe_load(text))
        except yaml.YAMLError as error:
            raise UserError(f"{path / 'config.yaml'}: broken YAML: {' '.join(str(error).split())}") from error
        if not isinstance(config, DictConfig) or "model" not in config or "task" not in config:
            raise UserError(f"{path / 'config.yaml'}: fields 'model' and 'task' are missing")
        vocabulary = load_vocabulary(path / "vocabulary.json")
        folder = path / "checkpoints"
        checkpoint = folder / "best.ckpt"
        if not checkpoint.is_file():
            checkpoint = folder / LAST
        if trained and not checkpoint.is_file():
            raise UserError(f"{folder / 'best.ckpt'}: no such checkpoint")
        return cls(path, checkpoint, config, vocabulary)

    def overridden(self, overrides: list[str]) -> DictConfig:
        """The config with `key=value` changes.

        Raises:
            UserError: a change is not of that form, or the key does not exist.
        """
        config = self.config.copy()
        OmegaConf.set_struct(config, True)
        for override in overrides:
            key, equals, value = override.partition("=")
            if not equals:
                raise UserError(f"{override}: expected key=value")
            if OmegaConf.is_config(OmegaConf.select(config, key)) and not value.startswith(("{", "[")):
                raise UserError(f"{override}: {key} is a group of fields; change one of them, as {key}.NAME=VALUE")
            if _accepted(config, key):
                OmegaConf.update(config, key, None, force_add=True)
            try:
                config.merge_with_dotlist([override])
            except (OmegaConfBaseException, yaml.YAMLError) as error:
                raise UserError(
                    f"{key}: no such field in the run's config ({' '.join(str(error).split())[:120]})"
                ) from error
        changed = [override.partition("=")[0] for override in overrides]
        for copied, original in COPIES:
            if (
                any(f"{key}.".startswith(f"{original}.") for key in changed)
                and OmegaConf.select(config, copied) is not None
            ):
                OmegaConf.update(config, copied, OmegaConf.select(config, original), merge=False)
        for key in changed:
            if key == "data.root" or (key in PATHS and "data.root" not in changed):
                files = OmegaConf.select(config, key)
                here = [str(Path(file).absolute()) for file in ([files] if isinstance(files, str) else files or [])]
                OmegaConf.update(config, key, here[0] if isinstance(files, str) else here or None, merge=False)
        return config

    def build(self, config: DictConfig | None = None) -> lightning.LightningModule:
        """The task with its trained weights, in evaluation mode on the CPU.

        Raises:
            UserError: the checkpoint is missing, broken, or of another model.
        """
        config = config or self.config
        bundled = self.checkpoint.suffix == ".safetensors"
        checkpoint = {} if bundled else read_checkpoint(self.checkpoint)
        family = config.task._target_ if bundled else checkpoint[RECORD]["config"]["task"]["_target_"]
        if family != config.task._target_:
            raise UserError(
                f"{self.checkpoint}: a checkpoint of {family}, but the run's task is {config.task._target_}"
            )
        settings = config.model.copy()
        pictures = isinstance(settings.get("encoder"), DictConfig)
        packaged = bundled and pictures and not _holds_encoder(self.checkpoint)
        if pictures and not packaged:
            # the checkpoint holds the encoder's weights: none need be fetched
            fetch_no_weights(settings.encoder)
        model = construct(settings, **self.vocabulary.sizes())
        task = construct(config.task, model=model, vocabulary=self.vocabulary)
        try:
            if bundled:
                with without_encoder(task.model) if packaged else contextlib.nullcontext():
                    load_weights(task.model, self.checkpoint)
            else:
                task.load_state_dict(checkpoint["state_dict"])
        except RuntimeError as error:
            raise UserError(
                f"{self.checkpoint}: weights of another model: {str(error).splitlines()[-1].strip()}"
            ) from error
        return task.eval()


def _accepted(config: DictConfig, key: str) -> bool:
    """Whether a group can be made with this field though it has none: it is newer than the run."""
    group, _, name = key.rpartition(".")
    settings = OmegaConf.select(config, group) if group else None
    if not isinstance(settings, DictConfig) or "_target_" not in settings or name in settings:
        return False
    return name in inspect.signature(get_object(settings["_target_"])).parameters


def fetch_no_weights(encoder: DictConfig) -> None:
    """Change an encoder's settings so that none of its weights are fetched when it is made."""
    encoder.update({key: value for key, value in NO_WEIGHTS.items() if key in encoder})


def serve(data: Any, task: Any, vocabulary: AnyVocabulary) -> None:
    """Give a data module what it takes from the model: the vocabulary, and the encoder of pictures, if there is one."""
    data.vocabulary = vocabulary
    if isinstance(data, CaptionDataModule):
        data.encoder = task.model.encoder


def require_split(option: str, split: str) -> None:
    """
    Raises:
        UserError: no data has such a split.
    """
    if split not in SPLITS:
        raise UserError(f"{option} {split}: unknown; choose one of {', '.join(SPLITS)}")


def open_split(data: Any, split: str) -> None:
    """Make a data module's validation batches those of a split.

    Raises:
        UserError: the data has none, or its files are missing or broken.
    """
    data.eval_split = split
    data.setup("validate")


def opened(config: DictConfig, task: Any, vocabulary: AnyVocabulary, split: str) -> Any:
    """A config's data module, given what it takes from a task; its validation batches are those of a split.

    Raises:
        UserError: the data has no such split, or its files are missing or broken.
    """
    data = construct(config.data)
    serve(data, task, vocabulary)
    open_split(data, split)
    return data


def bundle(
    run: Run, name: str, folder: Path, defaults: dict[str, Any], bits: int = 16, four_bits: str | None = None
) -> None:
    """Write a trained model as one that travels with the package: config, vocabulary and weights.

    The weights of a frozen encoder that another package holds are left out.

    Args:
        folder: of the new model.
        defaults: fields of the config that must not say where this machine keeps its files, by dotted key.
        bits, four_bits: of a weight; see `save_weights`.

    Raises:
        UserError: a field of the config names an absolute path that `defaults` does not replace, or `four_bits` finds
            no matrix.
    """
    config = OmegaConf.create({key: run.config[key] for key in BUNDLED if key in run.config})
    paths = {"paths.outputs": "outputs", "paths.cache": "data/cache", "paths.run": f"outputs/bundled/{name}"}
    for key, value in {**paths, **defaults}.items():
        OmegaConf.update(config, key, value, merge=False)
    data = OmegaConf.to_container(config)
    for key, value in _leaves(data):
        if isinstance(value, str) and Path(value).is_absolute():
            raise UserError(f"{run.folder}: {key}={value} names a place on this machine; give another")
    model = run.build().model
    assert isinstance(model, torch.nn.Module)
    packaged = _comes_with_a_package(run.config.model.get("encoder"), model)
    with without_encoder(model) if packaged else contextlib.nullcontext():
        save_weights(model, folder / WEIGHTS, bits, four_bits)
    save_vocabulary(run.vocabulary, folder / "vocabulary.json")
    write_text(folder / "config.yaml", yaml.safe_dump(data, sort_keys=False, allow_unicode=True))


def _comes_with_a_package(settings: Any, model: Any) -> bool:
    """Whether the model's encoder has the very weights that an installed package holds."""
    if not settings or not settings._target_.endswith(".efficientnet_lite") or not settings.pretrained:
        return False
    return fingerprint(construct(settings)) == fingerprint(model.encoder)


def _holds_encoder(path: Path) -> bool:
    """Whether a bundled captioner's file holds its encoder; else the encoder's weights come with another package."""
    with safe_open(path, "pt") as file:
        return any(name.startswith("encoder.") for name in file.keys())  # noqa: SIM118  # no mapping


@contextlib.contextmanager
def without_encoder(model: Any) -> Iterator[None]:
    """Take a captioner's encoder away for a while."""
    encoder, model.encoder = model.encoder, torch.nn.Identity()
    try:
        yield
    finally:
        model.encoder = encoder


def _leaves(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of nested data with its dotted key."""
    if isinstance(node, dict | list):
        for name, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _leaves(value, f"{key}.{name}" if key else str(name))
    else:
        yield key, node
