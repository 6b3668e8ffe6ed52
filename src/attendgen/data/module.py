"""The base of all data modules: the seam between data, model and training."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic

import lightning
import torch
from omegaconf import DictConfig, OmegaConf
from torch.utils.data import DataLoader, Dataset

from attendgen.config.instantiate import get_first_line, instantiate
from attendgen.data.captions.nearest import NearestCaptions
from attendgen.layers.encoder import ImageEncoder
from attendgen.text.vocabulary import AnyVocabulary, VocabularyKind
from attendgen.utils.errors import UserError
from attendgen.utils.files import exists

SPLITS = ("train", "val", "test")
ALIASES = {"dev": "val"}


def canonical_split(split: str) -> str:
    """Return the name under which data modules know a split: "dev" and "val" are the same."""
    return ALIASES.get(split, split)


def require_split(option: str, split: str) -> None:
    """Check the name of a split.

    Args:
        option: what the message names.

    Raises:
        UserError: no data has such a split.
    """
    if canonical_split(split) not in SPLITS:
        raise UserError(f"{option} {split}: unknown; choose one of {', '.join((*SPLITS, *ALIASES))}")


class BaseDataModule(lightning.LightningDataModule, Generic[VocabularyKind]):
    """Data with a vocabulary and the splits "train", "val" and "test".

    A subclass defines `build_vocabulary`, `dataset` and `make_loader`, and `references` if its outputs are compared
    with texts. `connect` is called before any of its data is read.

    Attributes:
        path_fields: names of arguments that are files or folders, which a run keeps as absolute paths; arguments that
            are annotated as `Path` need not be named.
        vocabulary_fields: names of arguments of which only `build_vocabulary` makes use, so that an evaluation cannot
            change them.
        vocabulary: given by `connect`; None before.
        eval_split: the split that the validation loop reads.
    """

    path_fields: ClassVar[tuple[str, ...]] = ()
    vocabulary_fields: ClassVar[tuple[str, ...]] = ("level", "vocab_size", "tokenizer", "min_frequency")

    def __init__(self) -> None:
        super().__init__()
        self.vocabulary: VocabularyKind | None = None
        self.eval_split = "val"

    def build_vocabulary(self) -> VocabularyKind:
        """Build the vocabulary of the training data."""
        raise NotImplementedError

    def dataset(self, split: str) -> Dataset[Any]:
        """Read a split."""
        raise NotImplementedError

    def make_loader(self, split: str, shuffle: bool) -> DataLoader[Any]:
        """Return the batches of a split: shuffled for training, or every example once."""
        raise NotImplementedError

    def references(self, split: str) -> dict[int, tuple[str, ...]]:
        """Return the reference texts of a split's examples, by index."""
        raise NotImplementedError

    def inputs(self, split: str) -> Sequence[str | int]:
        """Return what names the input of each of a split's examples: its number, its source text, or its image's id."""
        dataset: Any = self.dataset(split)
        return range(len(dataset))

    def count_inputs(self, split: str) -> dict[str, int]:  # noqa: ARG002
        """Return numbers by name that an evaluation writes beside the scores of a split, such as its characters."""
        return {}

    def read_files(self, paths: Sequence[str | Path]) -> None:  # noqa: ARG002
        """Make the split "text" of whole text files.

        Raises:
            UserError: the data is not text.
        """
        raise UserError("--text: only language models score text files; leave it out")

    def nearest_captions(self, number: int) -> NearestCaptions:
        """Return an index that finds the captions of the `number` training images most similar to an image.

        Raises:
            UserError: the data has no captions of images.
        """
        raise UserError(f"decoding.retrieval_captions={number}: the data module has no nearest_captions(); set it to 0")

    def connect(self, vocabulary: VocabularyKind, encoder: ImageEncoder | None = None) -> None:  # noqa: ARG002
        """Receive what the data shares with the model.

        Args:
            vocabulary: of the model; the data is encoded with it.
            encoder: of images, if the model has one.
        """
        self.vocabulary = vocabulary

    def require_vocabulary(self) -> VocabularyKind:
        """Return the vocabulary; it is built if `connect` has not been called."""
        if self.vocabulary is None:
            self.vocabulary = self.build_vocabulary()
        return self.vocabulary

    def open_split(self, split: str) -> None:
        """Let the validation loop read a split.

        Raises:
            UserError: the data has no such split, or its files are missing or broken.
        """
        self.eval_split = canonical_split(split)
        try:
            self.setup("validate")
        except KeyError as error:  # of a module that keeps its splits in a dict
            if error.args != (self.eval_split,):
                raise
            raise UserError(f"data: {type(self).__name__} has no split {split}; choose another") from error
        except OSError as error:
            raise UserError(f"data: {get_first_line(error)}") from error

    def setup(self, stage: str | None = None) -> None:
        """Read the splits that a stage needs."""
        for split in ("train", "val") if stage == "fit" else (self.eval_split,):
            self.dataset(split)

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the shuffled batches of the training split; unshuffled if a few of them are learnt by heart."""
        return self.make_loader("train", shuffle=not getattr(self.trainer, "overfit_batches", 0))

    def val_dataloader(self) -> DataLoader[Any]:
        """Return the batches of `eval_split`, every example once."""
        return self.make_loader(self.eval_split, shuffle=False)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:  # noqa: ANN401
        """Move a batch to a device, except the indices of its examples, which the host alone reads."""
        if "index" not in getattr(batch, "_fields", ()):
            return super().transfer_batch_to_device(batch, device, dataloader_idx)
        moved = super().transfer_batch_to_device(batch._replace(index=None), device, dataloader_idx)
        return moved._replace(index=batch.index)


@contextlib.contextmanager
def advise_root(config: DictConfig, option: str = "data.root=DIR") -> Iterator[None]:
    """Add to the message of a file that is missing that the folder of all data is, too.

    Args:
        config: of a data module.
        option: gives another folder.

    Raises:
        UserError: see the block.
    """
    try:
        yield
    except UserError as error:
        folders = (config.get("root"), OmegaConf.select(config, "source.root"))
        missing = [root for root in folders if isinstance(root, str) and not exists(root)]
        if not missing or not isinstance(error.__cause__, FileNotFoundError):
            raise
        advice = f"there is no folder {missing[0]}; give that of the data by {option}"
        raise UserError(f"{error}; {advice}") from error.__cause__


def require_data_module(data: object) -> BaseDataModule[Any]:
    """Return what a config made, which must be a data module.

    Raises:
        UserError: it is not a `BaseDataModule`.
    """
    if not isinstance(data, BaseDataModule):
        raise UserError(f"data: {type(data).__name__}; expected a class derived from attendgen.data.BaseDataModule")
    return data


def open_data(
    config: DictConfig, vocabulary: AnyVocabulary, encoder: ImageEncoder | None = None, split: str | None = None
) -> BaseDataModule[Any]:
    """Build a data module from its config and connect it.

    Args:
        split: what its validation loop reads; nothing is read unless given.

    Raises:
        UserError: it is not a `BaseDataModule`, or the split does not exist or its files are missing or broken.
    """
    data = require_data_module(instantiate(config, "data"))
    data.connect(vocabulary, encoder)
    if split is not None:
        with advise_root(config):
            data.open_split(split)
    return data
