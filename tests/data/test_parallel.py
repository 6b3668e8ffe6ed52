from collections import Counter

import pytest
import torch

from attendgen.config.instantiate import instantiate
from attendgen.data.parallel import ParallelDataModule, collate
from attendgen.data.tsv import read_aligned, read_pairs, require_columns
from attendgen.runs.run import Run
from attendgen.utils.errors import UserError
from attendgen.utils.special_tokens import EOS, PAD, SOS

PAIRS = [("tu vas bien ?", "oui"), ("salut", "bonjour toi"), ("tu vas bien ?", "non, pas trop"), ("été", "à l'eau")]


def lines(pairs) -> str:
    return "".join(f"{source}\t{target}\n" for source, target in pairs)


@pytest.fixture
def train(tmp_path):
    path = tmp_path / "train.tsv"
    path.write_text(lines(PAIRS), encoding="utf-8")
    return path


def refusal(call) -> str:
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_pairs_are_read_in_order(train):
    assert read_pairs(train) == PAIRS


@pytest.mark.parametrize(
    "data",
    [
        lines(PAIRS).replace("\n", "\r\n").encode(),
        b"\xef\xbb\xbf" + lines(PAIRS).encode(),
        b"\xef\xbb\xbf" + lines(PAIRS).replace("\n", "\r\n").encode(),
        lines(PAIRS).replace("\n", "\n\n \n").encode(),
        lines(PAIRS).rstrip("\n").encode(),
        lines(PAIRS).replace("\n", "\tCC-BY 2.0 (France) Attribution: tatoeba.org #1276\n").encode(),
        lines(PAIRS).replace("\n", "\tCC-BY 2.0\t\t \n").encode(),
    ],
    ids=["crlf", "bom", "bom and crlf", "blank lines", "no last line end", "attribution", "blank columns"],
)
def test_the_same_pairs_are_read_whatever_wrote_the_file(tmp_path, data):
    (tmp_path / "pairs.tsv").write_bytes(data)
    assert read_pairs(tmp_path / "pairs.tsv") == PAIRS


def test_unicode_line_separators_stay_inside_a_sentence(tmp_path):
    pairs = [("a\u2028b", "c\x85d"), ("e", "f")]
    (tmp_path / "pairs.tsv").write_text(lines(pairs), encoding="utf-8")
    assert read_pairs(tmp_path / "pairs.tsv") == pairs


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no sentence pairs"),
        (b"\n \r\n\n", "no sentence pairs"),
        (b"a\tb\n\nno tab here\n", "line 3: no tab"),
        (b"a\tb\nc\t\n", "line 2: empty target"),
        (b"a\tb\r\nc\t \tnote\r\n", "line 2: empty target"),
        (b"a\tb\n  \td\n", "line 2: empty source"),
        (b"a\tb\n\xe9t\xe9\td\n", "line 2: not UTF-8"),
    ],
    ids=["empty", "blank", "no tab", "no target", "no target but a note", "no source", "latin-1"],
)
def test_bad_lines_are_named(tmp_path, data, said):
    path = tmp_path / "pairs.tsv"
    path.write_bytes(data)
    assert refusal(lambda: read_pairs(path)).startswith(f"{path}: {said}")


def write(path, rows) -> str:
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def column(name) -> list[str]:
    """A column of as many cells as there are pairs."""
    return {
        "source": [source for source, _ in PAIRS],
        "target": [target for _, target in PAIRS],
        "numbers": ["1276", "7", "1,119", "30%"],
        "dates": ["2024-01-02", "02/01/2024", "12:30", "2.1.24"],
        "ids": ["s0001", "s0002", "s10", "s4"],
        "headed numbers": ["id", "1", "2", "3"],
        "long ids": ["eng2016_07", "eng2016_08", "eng2016_9", "eng2016_10"],
        "hyphened ids": ["train-0007", "train-0008", "train-0009", "train-0010"],
        "repeated": ["s1", "s2", "s2", "s3"],
        "mixed": ["eng_1", "eng_2", "fra_3", "eng_4"],
        "sums": ["12+7", "1+1", "3+4", "7+12"],
        "blank": [""] * 4,
    }[name]


def table(*names) -> list[tuple[str, ...]]:
    return list(zip(*map(column, names), strict=True))


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        (("numbers", "source", "numbers", "target"), [2, 4]),
        (("numbers", "target", "numbers", "source"), [4, 2]),
        (("ids", "source", "target"), [2, 3]),
        (("source", "numbers", "target"), (1, 3)),
        (("blank", "source", "blank", "target"), [2, 4]),
        (("source", "target"), [1, 2]),
    ],
)
def test_columns_choose_source_and_target(tmp_path, names, columns):
    path = write(tmp_path / "pairs.tsv", table(*names))
    assert read_pairs(path, columns) == PAIRS
    data = ParallelDataModule(path, level="words", columns=columns)
    assert data.dataset("train").pairs == data.dataset("val").pairs == PAIRS


@pytest.mark.parametrize(
    ("names", "seen", "advised"),
    [
        (("numbers", "source", "numbers", "target"), "line 1: 4 columns, of which the first is '1276'", "[2,4]"),
        (("source", "target", "numbers", "ids"), "line 1: 4 columns, of which the first is 'tu vas bien ?'", "[1,2]"),
        (("numbers", "source"), "column 1 holds only numbers, such as '1276'", "[1,2]"),
        (("dates", "source", "target"), "column 1 holds only numbers, such as '2024-01-02'", "[2,3]"),
        (("ids", "source", "target"), "column 1 holds only ids, such as 's0001'", "[2,3]"),
        (("headed numbers", "source", "target"), "column 1 holds only numbers, such as '1'", "[2,3]"),
        (("long ids", "source", "target"), "column 1 holds only ids, such as 'eng2016_07'", "[2,3]"),
        (("hyphened ids", "source"), "column 1 holds only ids, such as 'train-0007'", "[1,2]"),
        (("source", "numbers", "target"), "column 2 of 3 holds only numbers, such as '1276'", "[1,3]"),
        (("numbers", "numbers"), "column 1 holds only numbers, such as '1276'", "[1,2]"),
        (("numbers", "blank", "source", "target"), "line 1: 4 columns, of which the first is '1276'", "[3,4]"),
    ],
)
def test_columns_that_are_no_sentences_are_refused(tmp_path, names, seen, advised):
    path = write(tmp_path / "pairs.tsv", table(*names))
    message = refusal(lambda: read_pairs(path))
    assert message.startswith(f"{path}: {seen}")
    assert f"data.columns={advised}" in message
    columns = [int(number) for number in advised.strip("[]").split(",")]
    expected = [(row[columns[0] - 1], row[columns[1] - 1]) for row in table(*names)]
    assert read_pairs(path, columns) == expected  # the advice holds


@pytest.mark.parametrize(
    "names", [("sums", "numbers"), ("repeated", "target"), ("mixed", "target"), ("source", "target", "numbers")]
)
def test_what_may_be_meant_is_read(tmp_path, names):
    rows = table(*names)
    assert read_pairs(write(tmp_path / "pairs.tsv", rows)) == [row[:2] for row in rows]


def test_one_sentence_among_numbers_or_a_lone_id_is_read(tmp_path):
    for rows in ([("12", "douze"), ("douze", "12")], [("route66", "road66")]):
        assert read_pairs(write(tmp_path / "pairs.tsv", rows)) == rows


def test_the_line_with_more_columns_is_named(tmp_path):
    path = write(tmp_path / "pairs.tsv", [*PAIRS, (), ("a", "b", "", "c")])
    assert refusal(lambda: read_pairs(path)).startswith(f"{path}: line 6: 4 columns")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (("1", "a", "2"), "line 6: no column 4, which data.columns=[2,4] asks for"),
        (("no tab",), "line 6: no column 4"),
        (("1", "a", "2", " "), "line 6: empty target"),
        (("1", "", "2", "b"), "line 6: empty source"),
    ],
)
def test_a_line_without_the_chosen_columns_is_named(tmp_path, row, said):
    rows = [*table("numbers", "source", "numbers", "target"), (), row]
    path = write(tmp_path / "pairs.tsv", rows)
    assert refusal(lambda: read_pairs(path, [2, 4])).startswith(f"{path}: {said}")


@pytest.mark.parametrize(
    "columns", [[], [1], [1, 2, 3], [2, 2], [0, 1], [-1, 2], [1.0, 2], [True, 2], "2,4", 2, {1: 2}]
)
def test_bad_columns_are_named(train, columns):
    said = f"data.columns={columns!r}: expected two different whole numbers"
    assert refusal(lambda: require_columns(columns)).startswith(said)
    if isinstance(columns, list) and all(type(number) is int for number in columns):  # tests check the types, too
        assert refusal(lambda: ParallelDataModule(str(train), columns=columns)).startswith(said)


def test_aligned_files_have_no_columns(train, aligned):
    files = [str(path) for path in aligned]
    data = ParallelDataModule(str(train), val=files, columns=[1, 2])
    assert data.dataset("train").pairs == PAIRS
    assert refusal(lambda: data.dataset("val")).startswith(f"data.columns=[1,2]: {files[0]} and {files[1]} are aligned")


def test_a_run_from_before_there_were_columns_accepts_them(tmp_path):
    path = write(tmp_path / "pairs.tsv", table("numbers", "source", "numbers", "target"))
    run = Run.find("toy-chat")
    run.config.data.pop("columns", None)
    config = run.override([f"data.val={path}", "data.columns=[2,4]"])
    assert instantiate(config.data).read("val") == PAIRS


def test_a_missing_file_is_named(tmp_path, train):
    gone = tmp_path / "gone.tsv"
    assert refusal(lambda: read_pairs(gone)).startswith(f"{gone}: ")
    data = ParallelDataModule(str(train), val=str(gone))
    assert refusal(lambda: data.setup("fit")).startswith(f"{gone}: ")


@pytest.mark.parametrize(("side", "pair"), [("source", ("?!", "oui")), ("target", ("oui", "?!"))])
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_sentence_of_which_nothing_is_left_is_named(tmp_path, train, side, pair, split):
    bad = tmp_path / "bad.tsv"
    bad.write_text(lines([*PAIRS, pair]), encoding="utf-8")
    files = {"train": str(train), split: str(bad)}
    data = ParallelDataModule(**files, source_normalizer="fold", target_normalizer="fold")
    message = refusal(lambda: data.setup("fit"))
    assert message.startswith(f"{bad}: ")
    assert f"{side} '?!'" in message
    assert f"data.{side}_normalize=fold" in message


@pytest.fixture
def aligned(tmp_path):
    paths = tmp_path / "train.fr", tmp_path / "train.en"
    for path, side in zip(paths, zip(*PAIRS, strict=True), strict=True):
        path.write_text("".join(f"{text}\n" for text in side), encoding="utf-8")
    return paths


def test_two_aligned_files_hold_the_same_pairs(tmp_path, train, aligned):
    data = ParallelDataModule([str(path) for path in aligned])
    assert data.dataset("train").pairs == PAIRS == ParallelDataModule(str(train)).dataset("train").pairs
    relative = ParallelDataModule(["train.fr", "train.en"], root=str(tmp_path))
    assert relative.dataset("val").pairs == PAIRS


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        ("a\nb\n", "c\n", "train.en: 1 lines, but"),
        ("a\n\n", "c\nd\n", "train.fr: line 2: empty, but its counterpart is not"),
        ("a\nb\n", "c\n \n", "train.en: line 2: empty"),
        ("\n", "\n", "train.fr: no sentences"),
    ],
)
def test_bad_aligned_files_are_named(tmp_path, aligned, source, target, said):
    aligned[0].write_text(source)
    aligned[1].write_text(target)
    assert refusal(lambda: read_aligned(*aligned)).startswith(f"{tmp_path}/{said}")


def test_lines_blank_in_both_files_are_passed_over(aligned):
    aligned[0].write_text("a\n\nb")
    aligned[1].write_text("c\n \nd\n")
    assert read_aligned(*aligned) == [("a", "c"), ("b", "d")]


def test_a_split_is_one_file_or_two(train):
    for files in ([], [str(train)] * 3):
        data = ParallelDataModule(str(train), val=files or [""] * 4)
        assert refusal(lambda data=data: data.dataset("val")).startswith("data.val: ")


def test_an_unknown_split_is_named(train):
    assert "'tset'" in refusal(lambda: ParallelDataModule(str(train)).dataset("tset"))


def test_missing_splits_fall_back(tmp_path, train):
    assert ParallelDataModule(str(train)).dataset("val").pairs == PAIRS
    (tmp_path / "val.tsv").write_text(lines(PAIRS[1:]), encoding="utf-8")
    data = ParallelDataModule(str(train), val=str(tmp_path / "val.tsv"))
    assert data.dataset("train").pairs == PAIRS
    assert data.dataset("val").pairs == data.dataset("dev").pairs == PAIRS[1:]
    with pytest.raises(UserError, match=r"data\.test: this run has no test pairs"):
        data.dataset("test")


@pytest.mark.parametrize("level", ["characters", "words"])
def test_the_vocabularies_come_from_the_training_pairs_alone(tmp_path, train, level):
    (tmp_path / "val.tsv").write_text("xylophone\tzèbre\n", encoding="utf-8")
    data = ParallelDataModule(str(train), val=str(tmp_path / "val.tsv"), level=level)
    data.setup("fit")
    for side, vocabulary in enumerate((data.vocabulary.source, data.vocabulary.target)):
        seen = {symbol for pair in PAIRS for symbol in vocabulary.split(pair[side])}
        assert set(vocabulary.tokens) - set(vocabulary.specials) == seen
    (ids,) = data.dataset("val").ids
    symbols = ["xylophone"] if level == "words" else list("xylophone")
    known = [symbol in data.vocabulary.source.ids for symbol in symbols]
    assert [index != data.vocabulary.source.unknown for index in ids[0]] == known
    assert not all(known)


def test_rare_symbols_become_unknown(train):
    data = ParallelDataModule(str(train), level="words", min_frequency=2)
    vocabulary = data.build_vocabulary().source
    counts = Counter(word for source, _ in PAIRS for word in vocabulary.split(source))
    assert set(vocabulary.tokens) - set(vocabulary.specials) == {word for word, n in counts.items() if n >= 2}
    assert data.dataset("train").ids[1][0] == [vocabulary.unknown]


def test_references_are_all_targets_of_the_same_source(train):
    references = ParallelDataModule(str(train)).references("val")
    assert list(references) == list(range(len(PAIRS)))
    for index, (source, _) in enumerate(PAIRS):
        assert references[index] == tuple(target for other, target in PAIRS if other == source)
    assert len(references[0]) == 2


def test_a_batch_is_its_pairs_padded(train):
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


def test_real_pairs_survive_encoding(shared):
    path = shared / "data/multi30k/val.fr-en.tsv"
    data = ParallelDataModule(str(path), level="words")
    batch = next(iter(data.loader("val")))
    assert len(data.dataset("val")) == sum(bool(line.strip()) for line in path.read_bytes().split(b"\n"))
    vocabulary = data.vocabulary.target
    for index, outputs in zip(batch.index.tolist(), batch.outputs.tolist(), strict=True):
        words = vocabulary.normalize(data.dataset("val").pairs[index][1]).split()
        assert vocabulary.decode(outputs) == " ".join(words)
