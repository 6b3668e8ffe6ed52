"""The data module of tables: examples of training and evaluation, limits, vocabularies, placeholders."""

import logging

import pytest

from attendgen.data.tables.meaning_representations import MeaningRepresentations
from attendgen.data.tables.module import TableDataModule
from attendgen.text.table_vocabulary import TableVocabulary, split_value
from attendgen.utils.errors import UserError
from helpers.errors import refusal

PAIRS = [
    ("name[The Eagle], food[French]", "The Eagle serves French food."),
    ("name[Aromi]", "Aromi is there."),
    ("name[The Eagle], food[French]", "French food at The Eagle!"),
    ("food[French], name[The Eagle]", "Eat French food."),
]


def write(path, pairs):
    path.write_text("mr,ref\n" + "".join(f'"{table}","{text}"\n' for table, text in pairs), encoding="utf-8")
    return str(path)


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "train.csv", PAIRS)


def make(file, **options):
    return TableDataModule(MeaningRepresentations(), file, **options)


def test_training_reads_every_text_and_an_evaluation_every_table_once(file):
    data = make(file, batch_size=2)
    data.setup("fit")
    vocabulary = data.require_vocabulary()
    assert data.inputs("val") == [table for table, _ in (PAIRS[0], PAIRS[1], PAIRS[3])]
    assert data.references("val") == {0: (PAIRS[0][1], PAIRS[2][1]), 1: (PAIRS[1][1],), 2: (PAIRS[3][1],)}
    for shuffle, expected in ((True, PAIRS), (False, [PAIRS[0], PAIRS[1], PAIRS[3]])):
        found = []
        for batch in data.make_loader("train", shuffle):
            for row, index in enumerate(batch.index.tolist()):
                cells = [column[row][batch.cells.mask[row]].tolist() for column in batch.cells]
                table = data.tables("train")[[0, 1, 0, 2][index] if shuffle else index]
                assert list(zip(*cells, strict=True)) == vocabulary.encode(table)
                found.append((index, vocabulary.target.decode(batch.outputs[row].tolist())))
        assert sorted(found) == [(index, text) for index, (_, text) in enumerate(expected)]


def test_values_are_known_to_the_texts_however_rare_they_are(file):
    target = make(file, min_frequency=3).build_vocabulary().target
    assert {"The", "Eagle", "Aromi", "French", "food"} <= set(target.tokens)
    assert "serves" not in target.tokens


@pytest.mark.parametrize(("level", "size"), [("characters", None), ("bpe", 40)])
def test_the_tokens_of_a_value_are_those_within_a_text(file, level, size):
    target = make(file, level=level, vocab_size=size).build_vocabulary().target
    ids = target.encode(PAIRS[3][1])
    spoken = split_value("French food", target)
    assert [target.ids[token] for token in spoken] in [ids[i : i + len(spoken)] for i in range(len(ids))]
    assert target.join(spoken).strip() == "French food"


def test_numeric_tables_know_all_numbers(tmp_path):
    few, many = (
        make(write(tmp_path / f"{count}.csv", [(f"points[{n}]", f"{n} points") for n in range(count)]))
        for count in (10, 11)
    )
    assert "160" in many.build_vocabulary().values.ids
    assert many.build_vocabulary().target.encode("160")[0] != many.build_vocabulary().target.unknown
    assert len(few.build_vocabulary().values.names) == 10


def test_what_limits_cut_is_counted(file, caplog):
    caplog.set_level(logging.INFO)
    data = make(file, max_cells=2, max_length=4)
    data.setup("fit")
    assert "data.max_cells=2: 2 of 3 tables of data.train truncated" in caplog.text
    assert "data.max_length=4: 2 of 4 texts of data.train truncated" in caplog.text
    (batch,) = data.make_loader("train", shuffle=True)
    assert (batch.cells.kinds.size(1), batch.outputs.size(1)) == (2, 5)
    (batch,) = data.make_loader("val", shuffle=False)
    texts = [data.require_vocabulary().target.decode(row) for row in batch.outputs.tolist()]
    assert sorted(texts) == sorted([PAIRS[0][1], PAIRS[1][1], PAIRS[3][1]]), "references of an evaluation stay whole"


@pytest.mark.parametrize("level", ["words", "characters"])
def test_a_delexicalised_text_is_restored_from_its_own_table(file, level):
    data = make(file, level=level, delexicalise=["name"])
    data.setup("fit")
    (batch,) = data.make_loader("val", shuffle=False)
    vocabulary = data.require_vocabulary()
    texts = {
        index: vocabulary.target.decode(row)
        for index, row in zip(batch.index.tolist(), batch.outputs.tolist(), strict=True)
    }
    assert texts == {0: "X_name serves French food.", 1: "X_name is there.", 2: PAIRS[3][1]}
    assert [data.restore(index, text) for index, text in sorted(texts.items())] == [
        text for text, *_ in data.references("val").values()
    ]
    cells = [vocabulary.encode(table) for table in data.tables("val")]
    assert cells[1] == cells[0][: len(cells[1])], "no model can tell two names apart"


def test_unusable_settings_are_refused(file):
    assert "no table has 'near'; choose among food, name" in refusal(make(file, delexicalise=["near"]).build_vocabulary)
    assert refusal(lambda: make(file).references("test")).startswith("data.test: this run has no test tables")
    with pytest.raises(UserError, match=r"data\.normalizer=lower"):
        make(file, delexicalise=["name"], normalizer="lower")
    with pytest.raises(UserError, match=r"data\.max_cells=0: expected a whole number from 1"):
        make(file, max_cells=0)


def test_the_vocabulary_keeps_headings_and_examples(file):
    vocabulary = make(file).build_vocabulary()
    assert isinstance(vocabulary, TableVocabulary)
    assert vocabulary.examples == {"name": ("The Eagle", "Aromi"), "food": ("French",)}
    assert vocabulary.headings == {}
