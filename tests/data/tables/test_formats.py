"""Each reader gives the tables that its files spell, and names the rows that it cannot use."""

import json

import pytest

from attendgen.data.tables.json_lines import TableLines
from attendgen.data.tables.meaning_representations import MeaningRepresentations, detokenize
from attendgen.data.tables.rotowire import RotoWireGames, RotoWireSentences
from attendgen.data.tables.table import format_table, make_slot, parse_slots
from attendgen.layers.tables import Cell, Row
from helpers.errors import refusal

EAGLE = (make_slot("name", "The Eagle"), make_slot("priceRange", "£20-25"), make_slot("customer rating", "5 out of 5"))
TEXT = "It's The Eagle, £20-25 (5 out of 5)."


def write(path, *lines):
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("name[The Eagle], food[French]", {"name": "The Eagle", "food": "French"}),
        (" name [ The  Eagle ] ,food[French] ", {"name": "The Eagle", "food": "French"}),
        ("name[Eat, Drink], customer rating[5 out of 5]", {"name": "Eat, Drink", "customer rating": "5 out of 5"}),
        ("name[The [Old] Inn], food[a [b]]", {"name": "The [Old] Inn", "food": "a [b]"}),
        ("name[Fish], chips], food[English]", {"name": "Fish], chips", "food": "English"}),
    ],
)
def test_values_may_hold_commas_and_brackets(text, values):
    table = parse_slots(text)
    assert table == tuple(make_slot(name, value) for name, value in values.items())
    assert parse_slots(format_table(table)) == table


def test_tokenized_pairs_equal_those_of_the_csv(tmp_path):
    table = write(
        tmp_path / "src.txt",
        "__start_name__ The Eagle __end_name__ __start_priceRange__ £ 20 - 25 __end_priceRange__ "
        "__start_customerrating__ 5 out of 5 __end_customerrating__ ",
    )
    text = write(tmp_path / "text.txt", "It 's The Eagle , £ 20 - 25 ( 5 out of 5 ) . <eos>|||2,4,0 5,9,3")
    file = write(
        tmp_path / "pairs.csv",
        "mr,ref,orig_mr",
        f'"name[The Eagle], priceRange[£20-25], customer rating[5 out of 5]","{TEXT}",name[Another]',
    )
    assert MeaningRepresentations()([table, text]) == MeaningRepresentations()([file]) == [(EAGLE, TEXT)]
    assert detokenize("a - b isn 't , he 'll") == "a-b isn't, he'll"


def test_unusable_rows_of_a_csv_are_named_or_left_out(tmp_path, caplog):
    rows = [
        "mr,ref",
        'name[A],"a\nb"',
        "name A,text",
        "name[],text",
        "name[A],",
        '"name[A], food",text',
        "name[B]",
        "name[A], food[B],c",
    ]
    file = write(tmp_path / "pairs.csv", *rows)
    message = refusal(lambda: MeaningRepresentations()([file]))
    assert message.startswith(f"{file}: line 4: expected slot[value], slot[value], found 'name A'; line 5: slot 'name'")
    assert message.endswith("data.skip_bad=true leaves these 6 rows out")
    assert MeaningRepresentations(skip_bad=True)([file]) == [((make_slot("name", "A"),), "a b")]
    assert "6 unusable rows left out" in caplog.text


def test_a_quote_that_is_not_closed_takes_no_other_row_with_it(tmp_path):
    file = write(tmp_path / "pairs.csv", "mr,ref", "name[A],a", 'name[B],"b', "name[C],c", '"name[D], x[Y]",d')
    assert refusal(lambda: MeaningRepresentations()([file])).startswith(f"{file}: line 3: broken CSV: a quote is not")
    kept = MeaningRepresentations(skip_bad=True)([file])
    assert [text for _, text in kept] == ["a", "c", "d"]


def test_json_instead_of_a_csv_is_named(tmp_path):
    file = write(tmp_path / "tables.jsonl", '{"rows": {"a": 1}, "text": "b"}')
    assert refusal(lambda: MeaningRepresentations()([file])) == (
        f"{file}: JSON, not a CSV; data/source=table_lines reads one object per line"
    )


def test_a_csv_without_the_column_is_refused(tmp_path):
    file = write(tmp_path / "test.csv", "MR,text", "name[A],b")
    assert refusal(lambda: MeaningRepresentations()([file])) == f"{file}: no column 'mr'; the columns are MR, text"
    assert MeaningRepresentations(table="MR", text="text")([file]) == [((make_slot("name", "A"),), "b")]


def test_records_of_an_entity_are_one_row(tmp_path):
    parts = {
        "x_type": ["PLAYER_NAME TEAM_NAME PLAYER-PTS", "TEAM_NAME"],
        "x_value": ["Al_Horford Boston 17", "Boston"],
        "x_associated": ["Al_Horford Boston Al_Horford", "Boston Boston"],
        "y_aux": ["Al_Horford of Boston had 17 .", "Boston won ."],
    }
    for part, lines in parts.items():
        write(tmp_path / f"{part}.val.txt", *lines)
    files = [tmp_path / "{part}.val.txt"]
    refused = refusal(lambda: RotoWireSentences()(files))
    assert "line 2: 1 types, 1 values and 2 entities; they must correspond" in refused
    ((table, text),) = RotoWireSentences(skip_bad=True)(files)
    player = (Cell("PLAYER_NAME", "Al_Horford", "Al_Horford"), Cell("PLAYER-PTS", "Al_Horford", "17"))
    assert table == (Row("Al_Horford", player), Row("Boston", (Cell("TEAM_NAME", "Boston", "Boston"),)))
    assert text == "Al_Horford of Boston had 17 ."
    assert format_table(table) == "Al_Horford NAME Al_Horford; Al_Horford PTS 17; Boston NAME Boston"


def make_game(**changes):
    line = {"TEAM-NAME": "Celtics", "TEAM-PTS": "101", "TEAM-REB": "N/A"}
    names = {"0": "Al Horford", "1": "Ron Baker"}
    box = {"PLAYER_NAME": names, "FIRST_NAME": {"0": "Al", "1": "Ron"}, "TEAM_CITY": {"0": "Boston", "1": "New York"}}
    game = {
        "home_city": "Boston",
        "vis_city": "New York",
        "home_line": line,
        "vis_line": {**line, "TEAM-NAME": "Knicks"},
        "box_score": {**box, "PTS": {"0": "17", "1": "N/A"}},
        "summary": ["Boston", "won", "."],
    }
    return game | changes


def test_a_game_has_rows_of_teams_and_of_players_on_their_side(tmp_path):
    file = write(tmp_path / "games.json", json.dumps([make_game(), make_game(vis_city="Boston")]))
    first, second = RotoWireGames()([file])
    assert [(row.name, row.side) for row in first.table] == [
        ("Celtics", "home"), ("Knicks", "away"), ("Al Horford", "home"), ("Ron Baker", "away"),
    ]  # fmt: skip
    assert [row.side for row in second.table[2:]] == ["", ""]
    cells = [[(cell.kind, cell.value) for cell in row.cells] for row in first.table]
    assert cells[0] == [("TEAM-NAME", "Celtics"), ("TEAM-PTS", "101")]
    assert cells[2:] == [[("PLAYER_NAME", "Al Horford"), ("PLAYER-PTS", "17")], [("PLAYER_NAME", "Ron Baker")]]
    assert first.text == "Boston won ."


def test_a_broken_game_is_named(tmp_path):
    broken = make_game()
    del broken["vis_line"]
    file = write(tmp_path / "games.json", json.dumps([make_game(), broken, make_game(summary="text"), 5]))
    message = refusal(lambda: RotoWireGames()([file]))
    nested, listed = make_game(), make_game()
    listed["box_score"]["PTS"] = ["9"]
    nested["box_score"]["PTS"] = {key: {"a": 1} for key in nested["box_score"]["PLAYER_NAME"]}
    file.write_text(json.dumps([nested, listed]), encoding="utf-8")
    odd = refusal(lambda: RotoWireGames()([file]))
    assert "expected a text or a number, found dict; game 2: field 'PTS': expected dict, found list" in odd
    assert "game 2: field 'vis_line' is missing; game 3: field 'summary': expected list, found str; game 4:" in message


def test_lines_hold_rows_of_cells_or_one_thing_and_one_text_or_several(tmp_path):
    rows = [{"name": "Rome", "side": "south", "cells": {"people": 2.8, "rivers": ["Tiber", "Aniene"], "sea": None}}]
    file = write(
        tmp_path / "tables.jsonl",
        json.dumps({"rows": rows, "text": "Rome ."}),
        "",
        json.dumps({"rows": {"name": "The  Eagle", "familyFriendly": True}, "texts": ["a", " b  c "]}),
    )
    eagle = (make_slot("name", "The Eagle"), make_slot("familyFriendly", "yes"))
    cells = (Cell("people", "Rome", "2.8"), Cell("rivers", "Rome", "Tiber"), Cell("rivers", "Rome", "Aniene"))
    assert TableLines()([file]) == [((Row("Rome", cells, "south"),), "Rome ."), (eagle, "a"), (eagle, "b c")]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "broken JSON"),
        ('{"rows": {"a": 1}}', "field 'text' or 'texts'"),
        ('{"rows": 5, "text": "a"}', "field 'rows': expected a list or an object, found int"),
        ('{"rows": {"a": null}, "text": "a"}', "field 'rows': empty table"),
        ('{"rows": [{"name": "A"}], "text": "a"}', "field 'rows': row 1: field 'cells' is missing"),
        ('{"rows": {"a": {"b": 1}}, "text": "a"}', "value of 'a': expected a text, a number or a list, found dict"),
        ('{"rows": {"a": 1}, "text": " "}', "field 'text': empty text"),
        ('{"rows": {"a": 1}, "texts": ["b", 5]}', "field 'texts': expected a text, found int"),
        ('{"rows": [{"name": " ", "cells": {"a": 1}}], "text": "a"}', "field 'rows': row 1: field 'name': empty"),
        ('{"rows": {"a": 1, "a": 2}, "text": "b"}', "field 'a' occurs twice; keep one"),
        ('{"rows": {"a": NaN}, "text": "b"}', "broken JSON: NaN is no value; write null"),
        ('{"rows": {"a": 1}, "text": "b \\ud83d"}', "\\ud83d is half a character"),
    ],
)
def test_a_broken_line_is_named(tmp_path, line, reason):
    file = write(tmp_path / "tables.jsonl", '{"rows": {"a": 1}, "text": "one"}', line)
    assert refusal(lambda: TableLines()([file])).startswith(f"{file}: line 2: {reason}")
