import pytest

from attendgen.data.tsv import read_aligned, read_pairs, require_columns
from attendgen.utils.errors import UserError
from helpers.errors import refusal

PAIRS = [("tu vas bien ?", "oui"), ("salut", "bonjour toi"), ("tu vas bien ?", "non, pas trop"), ("été", "à l'eau")]


def lines(pairs) -> str:
    return "".join(f"{source}\t{target}\n" for source, target in pairs)


def test_pairs_are_read_in_order(tmp_path):
    assert read_pairs(write(tmp_path / "pairs.tsv", PAIRS)) == PAIRS


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
def test_line_ends_blank_lines_and_a_third_column_do_not_matter(tmp_path, data):
    (tmp_path / "pairs.tsv").write_bytes(data)
    assert read_pairs(tmp_path / "pairs.tsv") == PAIRS


def test_unicode_line_separators_do_not_end_a_line(tmp_path):
    pairs = [("a\u2028b", "c\x85d"), ("e", "f")]
    (tmp_path / "pairs.tsv").write_text(lines(pairs), encoding="utf-8")
    assert read_pairs(tmp_path / "pairs.tsv") == pairs


@pytest.mark.parametrize(
    ("data", "message"),
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
def test_bad_line_is_refused_with_its_number(tmp_path, data, message):
    path = tmp_path / "pairs.tsv"
    path.write_bytes(data)
    assert refusal(read_pairs, path).startswith(f"{path}: {message}")


def write(path, rows) -> str:
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def column(name) -> list[str]:
    """Return a column with one cell per pair."""
    return {
        "source": [source for source, _ in PAIRS],
        "target": [target for _, target in PAIRS],
        "numbers": ["1276", "7", "1,119", "30%"],
        "dates": ["2024-01-02", "02/01/2024", "12:30", "2.1.24"],
        "ids": ["s0001", "s0002", "s10", "s4"],
        "headed numbers": ["id", "1", "2", "3"],
        "long ids": ["eng2016_07", "eng2016_08", "eng2016_9", "eng2016_10"],
        "hyphenated ids": ["train-0007", "train-0008", "train-0009", "train-0010"],
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
        (("hyphenated ids", "source"), "column 1 holds only ids, such as 'train-0007'", "[1,2]"),
        (("source", "numbers", "target"), "column 2 of 3 holds only numbers, such as '1276'", "[1,3]"),
        (("numbers", "numbers"), "column 1 holds only numbers, such as '1276'", "[1,2]"),
        (("numbers", "blank", "source", "target"), "line 1: 4 columns, of which the first is '1276'", "[3,4]"),
    ],
)
def test_columns_without_sentences_are_refused_with_advice(tmp_path, names, seen, advised):
    path = write(tmp_path / "pairs.tsv", table(*names))
    message = refusal(read_pairs, path)
    assert message.startswith(f"{path}: {seen}")
    assert f"data.columns={advised}" in message
    columns = [int(number) for number in advised.strip("[]").split(",")]
    expected = [(row[columns[0] - 1], row[columns[1] - 1]) for row in table(*names)]
    assert read_pairs(path, columns) == expected  # the advice is right


@pytest.mark.parametrize(
    "names", [("sums", "numbers"), ("repeated", "target"), ("mixed", "target"), ("source", "target", "numbers")]
)
def test_columns_that_may_be_sentences_are_read(tmp_path, names):
    rows = table(*names)
    assert read_pairs(write(tmp_path / "pairs.tsv", rows)) == [row[:2] for row in rows]


def test_sentence_among_numbers_and_single_id_are_read(tmp_path):
    for rows in ([("12", "douze"), ("douze", "12")], [("route66", "road66")]):
        assert read_pairs(write(tmp_path / "pairs.tsv", rows)) == rows


def test_line_with_more_columns_is_refused_with_its_number(tmp_path):
    path = write(tmp_path / "pairs.tsv", [*PAIRS, (), ("a", "b", "", "c")])
    assert refusal(read_pairs, path).startswith(f"{path}: line 6: 4 columns")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("1", "a", "2"), "line 6: no column 4, which data.columns=[2,4] asks for"),
        (("no tab",), "line 6: no column 4"),
        (("1", "a", "2", " "), "line 6: empty target"),
        (("1", "", "2", "b"), "line 6: empty source"),
    ],
)
def test_line_without_the_chosen_columns_is_refused(tmp_path, row, message):
    rows = [*table("numbers", "source", "numbers", "target"), (), row]
    path = write(tmp_path / "pairs.tsv", rows)
    assert refusal(read_pairs, path, [2, 4]).startswith(f"{path}: {message}")


@pytest.mark.parametrize(
    "columns", [[], [1], [1, 2, 3], [2, 2], [0, 1], [-1, 2], [1.0, 2], [True, 2], "2,4", 2, {1: 2}]
)
def test_bad_columns_are_refused(columns):
    message = f"data.columns={columns!r}: expected two different whole numbers"
    assert refusal(require_columns, columns).startswith(message)


@pytest.fixture
def aligned(tmp_path):
    paths = tmp_path / "train.fr", tmp_path / "train.en"
    for path, side in zip(paths, zip(*PAIRS, strict=True), strict=True):
        path.write_text("".join(f"{text}\n" for text in side), encoding="utf-8")
    return paths


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("a\nb\n", "c\n", "train.en: 1 lines, but"),
        ("a\n\n", "c\nd\n", "train.fr: line 2: empty, but its counterpart is not"),
        ("a\nb\n", "c\n \n", "train.en: line 2: empty"),
        ("\n", "\n", "train.fr: no sentences"),
    ],
)
def test_bad_aligned_files_are_refused(tmp_path, aligned, source, target, message):
    aligned[0].write_text(source)
    aligned[1].write_text(target)
    assert refusal(read_aligned, *aligned).startswith(f"{tmp_path}/{message}")


def test_lines_blank_in_both_files_are_skipped(aligned):
    aligned[0].write_text("a\n\nb")
    aligned[1].write_text("c\n \nd\n")
    assert read_aligned(*aligned) == [("a", "c"), ("b", "d")]


def test_missing_file_is_refused(tmp_path):
    assert refusal(read_pairs, tmp_path / "missing.tsv").startswith(f"{tmp_path / 'missing.tsv'}: ")


def test_unusable_lines_are_named_together_or_left_out(tmp_path, caplog):
    path = write(tmp_path / "pairs.tsv", [("a", "b"), ("no tab",), ("c", ""), ("", "d"), ("e", "f")])
    with pytest.raises(UserError) as error:
        read_pairs(path)
    assert str(error.value) == (
        f"{path}: line 2: no tab; expected SOURCE<tab>TARGET; line 3: empty target; line 4: empty source; "
        "data.skip_bad=true leaves these 3 rows out"
    )
    assert read_pairs(path, skip_bad=True) == [("a", "b"), ("e", "f")]
    assert f"{path}: 3 unusable rows left out" in caplog.text


def test_aligned_files_lose_the_same_lines(tmp_path):
    for name, text in (("s", "a\n\nc\nd\n"), ("t", "A\nB\n\nD\n")):
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=r"s: line 2: empty, but its counterpart is not; data\.skip_bad=true"):
        read_aligned(tmp_path / "s", tmp_path / "t")
    assert read_aligned(tmp_path / "s", tmp_path / "t", skip_bad=True) == [("a", "A"), ("d", "D")]


def test_pairs_in_another_encoding(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_bytes("être\tto be\nété\tsummer\n".encode("cp1252"))
    assert read_pairs(path, encoding="cp1252") == [("être", "to be"), ("été", "summer")]
