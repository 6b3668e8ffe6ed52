"""Tables as users write them; what a model does not know is named."""

import json

import pytest

from attendgen.data.tables.meaning_representations import MeaningRepresentations
from attendgen.data.tables.table import TableText, group_records, make_slot, parse_slots
from attendgen.data.tables.vocabulary import build_table_vocabulary
from attendgen.data.tables.written import parse_table, read_tables, require_known, write_line
from attendgen.text.tokenizers import LevelTokenizer
from helpers.errors import refusal

EAGLE = parse_slots("name[The Eagle], food[French]")
KINDS = ["PLAYER_NAME", "PLAYER-PTS", "TEAM_NAME", "TEAM-PTS", "TEAM-WINS"]
GAME = group_records(
    KINDS, ["Al_Horford", "17", "New_York", "103", "9"], ["Al_Horford", "Al_Horford", *["New_York"] * 3]
)


UNNAMED = group_records(["TEAM-PTS"], ["17"], ["Boston"])


def build(*tables, **options):
    pairs = [TableText(table, "The Eagle serves French food .") for table in tables]
    return build_table_vocabulary(pairs, LevelTokenizer("words"), **options)


SLOTS, RECORDS = build(EAGLE, parse_slots("name[Aromi], food[Fast food], area[riverside]")), build(GAME)


@pytest.mark.parametrize("text", ["name[The Eagle], food[French]", "Name[the eagle], FOOD[french]"])
def test_a_meaning_representation_is_a_table(text):
    assert parse_table(text, SLOTS) == EAGLE


@pytest.mark.parametrize(
    "text",
    [
        "Al_Horford PTS 17; New_York PTS 103; New_York WINS 9",
        "Al Horford PLAYER-PTS 17 ;New York PTS 103; New York TEAM-WINS 9;",
        "al horford pts 17; NEW_YORK team-pts 103; new york wins 9",
        "Al_Horford NAME Al Horford; Al_Horford PTS 17; New_York NAME New_York; New_York PTS 103; New_York WINS 9",
    ],
)
def test_records_are_a_table_with_the_names_of_their_entities(text):
    assert parse_table(text, RECORDS) == GAME


@pytest.mark.parametrize(
    ("table", "vocabulary"),
    [
        (EAGLE, SLOTS),
        (parse_slots("food[French], food[Fast food]"), SLOTS),
        (GAME, RECORDS),
        ((make_slot("food", "French"), make_slot("na, me[", "Aromi")), build((make_slot("na, me[", "Aromi"),), EAGLE)),
    ],
)
def test_a_line_is_the_table_it_was_written_from(table, vocabulary):
    assert parse_table(write_line(table), vocabulary) == table


@pytest.mark.parametrize(
    ("text", "vocabulary", "message"),
    [
        ("name[The Eagle], colour[red]", SLOTS, "text: slot 'colour': unknown; known ones are food, name, area"),
        ("food[Klingon]", SLOTS, "text: food 'Klingon': unknown; known ones are French, Fast food"),
        ("The Eagle", SLOTS, "text: expected slot[value], slot[value], found 'The Eagle'"),
        ("", SLOTS, "text: empty table"),
        ('{"rows": 5}', SLOTS, "text: field 'rows': expected a list or an object, found int"),
        ("Al_Horford", RECORDS, "text: expected ENTITY KIND VALUE; ENTITY KIND VALUE, found 'Al_Horford'"),
        (
            "Al Horford PTS",
            RECORDS,
            "text: record 'Al Horford PTS' has no value; expected ENTITY KIND VALUE; ENTITY KIND VALUE",
        ),
        ("Al_Horford STL 5", RECORDS, "text: kind 'STL': unknown; known ones are PTS, NAME, WINS"),
        ("Al_Horfor PTS 17", RECORDS, "text: 'Al_Horfor': unknown; known ones are Al_Horford, New_York"),
        (
            "Boston PTS 17",
            build(GAME, UNNAMED),
            "text: kind 'PTS' of 'Boston': TEAM-PTS or PLAYER-PTS; give one of them",
        ),
        ("Al_Horford PTS 18", RECORDS, "text: PLAYER-PTS '18': unknown; known ones are 17"),
        (";", RECORDS, "text: empty table"),
    ],
)
def test_what_is_unknown_is_named_beside_what_is_known(text, vocabulary, message):
    assert refusal(parse_table, text, vocabulary) == message


def test_a_value_that_a_placeholder_replaces_may_be_unknown():
    vocabulary = build(EAGLE, delexicalise=["name"])
    require_known(parse_slots("name[My Own Inn], food[French]"), vocabulary)
    assert "'My Own Inn'" in refusal(require_known, parse_slots("name[My Own Inn]"), SLOTS)


def test_files_hold_tables_without_texts(tmp_path):
    csv, one, several = tmp_path / "test.csv", tmp_path / "one.json", tmp_path / "several.json"
    csv.write_text('mr\n"name[The Eagle], food[French]"\n', encoding="utf-8")
    one.write_text(write_line(GAME), encoding="utf-8")
    rows = {"rows": {"name": "The Eagle", "food": "French"}}
    several.write_text(json.dumps([rows, json.loads(write_line(GAME))]), encoding="utf-8")
    assert read_tables(csv) == [EAGLE]
    csv.write_text('mr\n"name[The Eagle], food[French]"\nname[]\n', encoding="utf-8")
    assert refusal(read_tables, csv) == f"{csv}: line 3: slot 'name' has no value"
    assert read_tables(one) == [GAME]
    assert read_tables(several) == [EAGLE, GAME]
    assert "no column 'ref'" in refusal(lambda: MeaningRepresentations()([csv]))
    one.write_text("[5]", encoding="utf-8")
    assert refusal(read_tables, one) == f"{one}: table 1: expected an object with 'rows', found int"
    one.write_text("[]", encoding="utf-8")
    assert refusal(read_tables, one).startswith(f"{one}: no tables; ")
