"""Vocabularies of tables: ids of cells, copies, placeholders."""

from attendgen.data.batch import pad_cells
from attendgen.layers.tables import Cell, Row
from attendgen.text.table_vocabulary import TableVocabulary
from attendgen.text.vocabulary import Vocabulary, load_vocabulary, save_vocabulary

TARGET = Vocabulary(["The", "Eagle", "serves", "French", "food", "￭.", "X_name", "X_near", "X_near_2"], "words")
EAGLE = (
    Row("name", (Cell("name", "", "The Eagle"),)),
    Row("food", (Cell("food", "", "French"),)),
)
GAME = (
    Row("Boston", (Cell("TEAM-PTS", "Boston", "119"),), "away"),
    Row("Al_Horford", (Cell("PLAYER_NAME", "Al_Horford", "Al_Horford"), Cell("PTS", "Al_Horford", "15")), "home"),
)


def make_vocabulary(**options):
    values = ["The", "Eagle", "French", "119", "15", "Al_Horford"]
    kinds = ["name", "food", "near", "TEAM-PTS", "PLAYER_NAME", "PTS"]
    return TableVocabulary(kinds, ["Boston", "Al_Horford"], values, TARGET, **options)


def test_each_word_of_a_value_is_a_cell_with_its_place_and_its_copy():
    vocabulary = make_vocabulary(words=2)
    kinds, values = vocabulary.kinds.ids, vocabulary.values.ids
    assert vocabulary.encode(EAGLE) == [
        (kinds["name"], 0, values["The"], 1, 1, TARGET.ids["The"]),
        (kinds["name"], 0, values["Eagle"], 2, 1, TARGET.ids["Eagle"]),
        (kinds["food"], 0, values["French"], 1, 2, TARGET.ids["French"]),
    ]


def test_places_tell_sides_apart_and_unknown_names_are_unknown():
    vocabulary = make_vocabulary(words=2, sides=["home", "away"])
    ids = vocabulary.encode((*GAME, Row("Orlando", (Cell("AST", "Orlando", "5 of 6"),))))
    assert [cell.place for cell in ids] == [5, 3, 3, 1, 2, 2]
    assert [(cell.kind, cell.entity, cell.value, cell.copy) for cell in ids[3:]] == [(1, 1, 1, 0)] * 3
    assert vocabulary.sizes()["place_vocab_size"] == 7


def test_cells_are_padded_by_field():
    vocabulary = make_vocabulary(words=2)
    tables = [vocabulary.encode(EAGLE), vocabulary.encode(GAME[:1]), []]
    cells = pad_cells(tables)
    assert cells.mask.sum(dim=1).tolist() == [3, 1, 0]
    assert cells.rows.tolist() == [[1, 1, 2], [1, 0, 0], [0, 0, 0]]
    assert cells.values[1].tolist() == [vocabulary.values.ids["119"], 0, 0]


def test_a_saved_vocabulary_loads_the_same(tmp_path):
    vocabulary = make_vocabulary(words=2, sides=["home", "away"], delexicalised=["name"])
    save_vocabulary(vocabulary, tmp_path / "vocabulary.json")
    loaded = load_vocabulary(tmp_path / "vocabulary.json")
    assert isinstance(loaded, TableVocabulary)
    assert loaded.to_dict() == vocabulary.to_dict()
    assert loaded.sizes() == vocabulary.sizes()
    assert loaded.encode(EAGLE) == vocabulary.encode(EAGLE)


def test_cells_are_described_by_kind_value_and_entity():
    vocabulary = make_vocabulary()
    assert list(map(vocabulary.describe_cell, vocabulary.encode(EAGLE))) == ["name The", "name Eagle", "food French"]
    names = list(map(vocabulary.describe_cell, vocabulary.encode(GAME)))
    assert names == ["PTS 119 (Boston)", "NAME Al_Horford", "PTS 15 (Al_Horford)"]


def test_restored_text_is_the_text_that_was_delexicalised():
    vocabulary = make_vocabulary(delexicalised=["name", "near"])
    table = (*EAGLE, Row("near", (Cell("near", "", "Eagle"), Cell("near", "", "Café Rome"))))
    text = "The Eagle, near Eagle and Café Rome, is no Eagles' nest."
    hidden = vocabulary.delexicalise_text(table, text)
    assert hidden == "X_name, near X_near and X_near_2, is no Eagles' nest."
    assert vocabulary.restore(table, hidden) == text
    assert [TARGET.tokens[cell.copy] for cell in vocabulary.encode(table)] == ["X_name", "French", "X_near", "X_near_2"]
    assert vocabulary.restore(EAGLE, "X_name and X_near") == "The Eagle and X_near"  # of a value that is not there
