"""The base of all data modules, and how a data module is opened from a config."""

from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch.utils.data import DataLoader, Dataset, RandomSampler, SequentialSampler

from attendgen.data.module import BaseDataModule, advise_root, canonical_split, open_data, require_split
from attendgen.layers.state import iterate_tensors
from attendgen.text.vocabulary import Vocabulary
from attendgen.utils.files import read_text
from helpers.errors import refusal
from helpers.families import make_training


class Letters(Dataset[str]):
    def __init__(self, text: str) -> None:
        self.text = text

    def __len__(self) -> int:
        return len(self.text)

    def __getitem__(self, index: int) -> str:
        return self.text[index]


class LettersDataModule(BaseDataModule[Vocabulary]):
    """A data module that records what is asked of it."""

    def __init__(self, train: str = "abc", val: str = "de") -> None:
        super().__init__()
        self.splits = {"train": train, "val": val}
        self.built = 0
        self.read: list[str] = []

    def build_vocabulary(self) -> Vocabulary:
        self.built += 1
        return Vocabulary.build(self.splits["train"])

    def dataset(self, split: str) -> Letters:
        self.read.append(split)
        return Letters(self.splits[canonical_split(split)])

    def make_loader(self, split: str, shuffle: bool) -> DataLoader[Any]:
        return DataLoader(self.dataset(split), batch_size=2, shuffle=shuffle)


def test_connect_sets_the_vocabulary():
    data = LettersDataModule()
    assert data.vocabulary is None
    vocabulary = Vocabulary.build("xyz")
    data.connect(vocabulary)
    assert data.require_vocabulary() is vocabulary
    assert data.built == 0


def test_vocabulary_is_built_once_unless_connected():
    data = LettersDataModule()
    vocabulary = data.require_vocabulary()
    assert data.require_vocabulary() is vocabulary
    assert data.vocabulary is vocabulary
    assert data.built == 1
    assert set("abc") < set(vocabulary.tokens)


@pytest.mark.parametrize(("split", "name"), [("val", "val"), ("dev", "val"), ("train", "train")])
def test_open_split_chooses_the_split_of_the_validation_loader(split, name):
    data = LettersDataModule()
    data.open_split(split)
    assert data.eval_split == name
    assert data.read == [name]
    assert "".join(letter for batch in data.val_dataloader() for letter in batch) == data.splits[name]


def test_setup_reads_the_splits_of_its_stage():
    data = LettersDataModule()
    data.setup("fit")
    assert data.read == ["train", "val"]
    data.read.clear()
    data.setup("validate")
    assert data.read == ["val"]


def test_loaders_are_of_the_training_and_the_evaluation_split():
    data = LettersDataModule()
    train = [letter for batch in data.train_dataloader() for letter in batch]
    assert sorted(train) == list("abc")
    assert [letter for batch in data.val_dataloader() for letter in batch] == list("de")


def test_only_the_training_batches_are_shuffled():
    data = LettersDataModule()
    assert isinstance(data.train_dataloader().sampler, RandomSampler)
    assert isinstance(data.val_dataloader().sampler, SequentialSampler)


def test_dev_is_val():
    assert [canonical_split(split) for split in ("train", "val", "dev", "test")] == ["train", "val", "val", "test"]


def test_unknown_split_is_refused():
    for split in ("train", "val", "dev", "test"):
        require_split("--split", split)
    assert refusal(require_split, "--split", "tset") == "--split tset: unknown; choose one of train, val, test, dev"


CORPUS = {"_target_": "attendgen.data.TextDataModule", "context_len": 4, "seq_len": 4, "min_frequency": 1}


def test_open_data_connects_and_reads_the_split(tmp_path):
    (tmp_path / "text.txt").write_text("abcd" * 100)
    config = OmegaConf.create({**CORPUS, "root": str(tmp_path)})
    vocabulary = Vocabulary.build("abcd")
    unread = open_data(config, vocabulary)
    assert unread.vocabulary is vocabulary
    assert unread.sets == {}
    assert list(open_data(config, vocabulary, split="dev").sets) == ["val"]


def test_open_data_refuses_bad_splits_and_other_classes(tmp_path):
    (tmp_path / "text.txt").write_text("abcd" * 100)
    config = OmegaConf.create({**CORPUS, "root": str(tmp_path)})
    vocabulary = Vocabulary.build("abcd")
    assert "'tset'" in refusal(open_data, config, vocabulary, split="tset")
    other = OmegaConf.create({"_target_": "torch.nn.Identity"})
    message = refusal(open_data, other, vocabulary)
    assert message == "data: Identity; expected a class derived from attendgen.data.BaseDataModule"


def test_data_without_images_retrieve_no_captions() -> None:
    told = refusal(BaseDataModule[Any]().nearest_captions, 2)
    assert told == "decoding.retrieval_captions=2: the data module has no nearest_captions(); set it to 0"


class Dicts(BaseDataModule):
    """A module from scratch that keeps its splits in a dict."""

    def __init__(self, splits: dict[str, list[int]]) -> None:
        super().__init__()
        self.parts = splits

    def dataset(self, split: str) -> Any:
        if split == "val":
            return Path("/no/such/file").read_text()
        return self.parts[split]


def test_a_split_that_a_module_lacks_or_cannot_read_is_one_line() -> None:
    data = Dicts({"train": [1]})
    assert refusal(data.open_split, "test") == "data: Dicts has no split test; choose another"
    assert refusal(data.open_split, "dev") == "data: /no/such/file: No such file or directory; check the path"
    data.parts["test"] = [2]
    data.open_split("test")
    assert data.eval_split == "test"


@pytest.mark.parametrize("field", ["root", "source.root"])
def test_a_missing_folder_of_data_is_told_with_its_option(tmp_path: Path, field: str) -> None:
    def read(root: Path) -> None:
        config = OmegaConf.create({})
        OmegaConf.update(config, field, str(root))
        with advise_root(config):
            read_text(root / "a.txt")

    assert refusal(read, tmp_path) == f"{tmp_path / 'a.txt'}: No such file or directory; check the path"
    assert refusal(read, tmp_path / "none").endswith(
        f"there is no folder {tmp_path / 'none'}; give that of the data by data.root=DIR"
    )


@pytest.mark.parametrize("name", ["captioner", "seq2seq, luong", "table", "lm, lstm"])
def test_indices_of_examples_stay_on_the_host_which_alone_reads_them(name):
    batch = make_training(name).batch
    moved = LettersDataModule().transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert type(moved) is type(batch)
    for field, part in moved._asdict().items():
        assert all(tensor.is_meta == (field != "index") for tensor in iterate_tensors(part))
