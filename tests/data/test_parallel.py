from collections import Counter

import pytest
import torch

from attendgen.config.instantiate import instantiate
from attendgen.data.parallel import ParallelDataModule, collate
from attendgen.runs.run import Run
from attendgen.utils.errors import UserError
from attendgen.utils.special_tokens import EOS, PAD, SOS
from helpers.errors import refusal

PAIRS = [("tu vas bien ?", "oui"), ("salut", "bonjour toi"), ("tu vas bien ?", "non, pas trop"), ("été", "à l'eau")]


def lines(pairs) -> str:
    return "".join(f"{source}\t{target}\n" for source, target in pairs)


@pytest.fixture
def train(tmp_path):
    path = tmp_path / "train.tsv"
    path.write_text(lines(PAIRS), encoding="utf-8")
    return path


@pytest.fixture
def aligned(tmp_path):
    paths = tmp_path / "train.fr", tmp_path / "train.en"
    for path, side in zip(paths, zip(*PAIRS, strict=True), strict=True):
        path.write_text("".join(f"{text}\n" for text in side), encoding="utf-8")
    return paths


def test_aligned_files_have_no_columns(train, aligned):
    files = [str(path) for path in aligned]
    data = ParallelDataModule(str(train), val=files, columns=[1, 2])
    assert data.dataset("train").pairs == PAIRS
    assert refusal(lambda: data.dataset("val")).startswith(f"data.columns=[1,2]: {files[0]} and {files[1]} are aligned")


def test_saved_run_without_columns_accepts_them(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("".join(f"7\t{source}\t8\t{target}\n" for source, target in PAIRS), encoding="utf-8")
    run = Run.find("toy-chat")
    run.config.data.pop("columns", None)
    config = run.override([f"data.val={path}", "data.columns=[2,4]"])
    assert instantiate(config.data, "data").read("val") == PAIRS


def test_missing_file_is_refused(tmp_path, train):
    missing = tmp_path / "missing.tsv"
    data = ParallelDataModule(str(train), val=str(missing))
    assert refusal(data.setup, "fit").startswith(f"{missing}: ")


@pytest.mark.parametrize(("side", "pair"), [("source", ("?!", "oui")), ("target", ("oui", "?!"))])
@pytest.mark.parametrize("split", ["train", "val"])
def test_sentence_without_tokens_after_normalization_is_refused(tmp_path, train, side, pair, split):
    bad = tmp_path / "bad.tsv"
    bad.write_text(lines([*PAIRS, pair]), encoding="utf-8")
    files = {"train": str(train), split: str(bad)}
    data = ParallelDataModule(**files, source_normalizer="fold", target_normalizer="fold")
    message = refusal(lambda: data.setup("fit"))
    assert message.startswith(f"{bad}: ")
    assert f"{side} '?!'" in message
    assert f"data.{side}_normalizer=fold" in message


def test_two_aligned_files_equal_a_tsv(tmp_path, train, aligned):
    data = ParallelDataModule([str(path) for path in aligned])
    assert data.dataset("train").pairs == PAIRS == ParallelDataModule(str(train)).dataset("train").pairs
    relative = ParallelDataModule(["train.fr", "train.en"], root=str(tmp_path))
    assert relative.dataset("val").pairs == PAIRS


def test_split_of_no_or_three_files_is_refused(train):
    for files in ([], [str(train)] * 3):
        data = ParallelDataModule(str(train), val=files or [""] * 4)
        assert refusal(lambda data=data: data.dataset("val")).startswith("data.val: ")


def test_unknown_split_is_refused(train):
    assert "'tset'" in refusal(lambda: ParallelDataModule(str(train)).dataset("tset"))


def test_val_defaults_to_train_and_test_to_none(tmp_path, train):
    assert ParallelDataModule(str(train)).dataset("val").pairs == PAIRS
    (tmp_path / "val.tsv").write_text(lines(PAIRS[1:]), encoding="utf-8")
    data = ParallelDataModule(str(train), val=str(tmp_path / "val.tsv"))
    assert data.dataset("train").pairs == PAIRS
    assert data.dataset("val").pairs == data.dataset("dev").pairs == PAIRS[1:]
    with pytest.raises(UserError, match=r"data\.test: this run has no test pairs"):
        data.dataset("test")


@pytest.mark.parametrize("level", ["characters", "words"])
def test_vocabularies_are_of_the_training_pairs_alone(tmp_path, train, level):
    (tmp_path / "val.tsv").write_text("xylophone\tzèbre\n", encoding="utf-8")
    data = ParallelDataModule(str(train), val=str(tmp_path / "val.tsv"), level=level)
    data.setup("fit")
    for side, vocabulary in enumerate((data.vocabulary.source, data.vocabulary.target)):
        seen = {token for pair in PAIRS for token in vocabulary.split(pair[side])}
        assert set(vocabulary.tokens) - set(vocabulary.specials) == seen
    (ids,) = data.dataset("val").ids
    tokens = ["xylophone"] if level == "words" else list("xylophone")
    known = [token in data.vocabulary.source.ids for token in tokens]
    assert [index != data.vocabulary.source.unknown for index in ids[0]] == known
    assert not all(known)


def test_rare_tokens_become_unknown(train):
    pairs = [*PAIRS, ("oui", PAIRS[0][1])]  # one target occurs twice
    train.write_text(lines(pairs), encoding="utf-8")
    data = ParallelDataModule(str(train), level="words", min_frequency=2)
    vocabulary = data.build_vocabulary().source
    counts = Counter(word for source, _ in pairs for word in vocabulary.split(source))
    assert set(vocabulary.tokens) - set(vocabulary.specials) == {word for word, n in counts.items() if n >= 2}
    assert data.dataset("train").ids[1][0] == [vocabulary.unknown]


def test_references_are_all_targets_of_a_source(train):
    references = ParallelDataModule(str(train)).references("val")
    assert list(references) == list(range(len(PAIRS)))
    for index, (source, _) in enumerate(PAIRS):
        assert references[index] == tuple(target for other, target in PAIRS if other == source)
    assert len(references[0]) == 2


def test_batch_holds_padded_pairs(train):
    data = ParallelDataModule(str(train))
    examples = data.dataset("train")
    batch = collate([examples[i] for i in (2, 0)])
    assert batch.index.tolist() == [2, 0]
    for index, source, inputs, outputs in zip(*(part.tolist() for part in batch[:4]), strict=True):
        encoded = data.vocabulary.source.encode(PAIRS[index][0])
        assert source == encoded + [PAD] * (len(source) - len(encoded))
        assert data.vocabulary.target.decode(outputs) == PAIRS[index][1]
        end = outputs.index(EOS)
        assert inputs == [SOS, *outputs[:end], *[PAD] * (len(outputs) - end - 1)]


def test_loaders_give_every_pair_once(train):
    data = ParallelDataModule(str(train), batch_size=3)
    data.setup("fit")
    for loader in (data.train_dataloader(), data.val_dataloader()):
        batches = list(loader)
        assert len(batches) == len(loader) == 2
        assert sorted(torch.cat([batch.index for batch in batches]).tolist()) == list(range(len(PAIRS)))


def test_real_pairs_are_recovered_from_a_batch(shared):
    path = shared / "data/multi30k/val.fr-en.tsv"
    data = ParallelDataModule(str(path), level="words")
    batch = next(iter(data.make_loader("val", shuffle=False)))
    assert len(data.dataset("val")) == sum(bool(line.strip()) for line in path.read_bytes().split(b"\n"))
    vocabulary = data.vocabulary.target
    for index, outputs in zip(batch.index.tolist(), batch.outputs.tolist(), strict=True):
        words = vocabulary.normalize(data.dataset("val").pairs[index][1]).split()
        assert vocabulary.decode(outputs) == " ".join(words)


def test_columns_reach_the_reader(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("".join(f"{target}\t7\t{source}\n" for source, target in PAIRS), encoding="utf-8")
    data = ParallelDataModule(str(path), level="words", columns=[3, 1])
    assert data.dataset("train").pairs == data.dataset("val").pairs == PAIRS


@pytest.mark.parametrize("columns", [[], [1], [2, 2], [0, 1]])
def test_bad_columns_are_refused(train, columns):
    message = refusal(lambda: ParallelDataModule(str(train), columns=columns))
    assert message.startswith(f"data.columns={columns!r}: expected two different whole numbers")
