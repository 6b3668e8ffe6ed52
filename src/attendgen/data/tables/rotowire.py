"""Readers of RotoWire's reports on basketball games: whole games, and single sentences with their records."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attendgen.data.bad_rows import BadRowError, BadRows, get_field
from attendgen.data.tables.table import TableText, clean_text, group_records
from attendgen.layers.tables import Cell, Row, Table
from attendgen.utils.errors import UserError
from attendgen.utils.files import read_json, read_text

PARTS = ("x_type", "x_value", "x_associated", "y_aux")
ABSENT = "N/A"  # of a player who did not play
NAME, CITY = "PLAYER_NAME", "TEAM_CITY"
REPEATED = {NAME, "FIRST_NAME", "SECOND_NAME", CITY}  # columns of a box score that the name and the side already say


class RotoWireSentences:
    """Sentences with the records that they state, in four files whose lines correspond.

    `x_type` holds the types of a sentence's records, `x_value` their values, `x_associated` whom they are about, and
    `y_aux` the sentence. The records about one player or team are one row.

    Args:
        skip_bad: leave unusable lines out.
        encoding: of the files; None is UTF-8.
    """

    def __init__(self, skip_bad: bool = False, encoding: str | None = None) -> None:
        self.skip_bad = skip_bad
        self.encoding = encoding

    def __call__(self, files: Sequence[Path]) -> list[TableText]:
        """Read the files that a name with `{part}` stands for, as `{part}.train.txt`.

        Raises:
            UserError: the name has no `{part}`, a file is missing, they differ in length, or a line cannot be used.
        """
        if len(files) != 1 or "{part}" not in files[0].name:
            raise UserError(
                f"data: {', '.join(map(str, files))}: expected one name with {{part}}, as {{part}}.train.txt"
            )
        paths = [files[0].with_name(files[0].name.replace("{part}", part)) for part in PARTS]
        sides = [read_text(path, self.encoding).removesuffix("\n").split("\n") for path in paths]
        for path, lines in zip(paths, sides, strict=True):
            if len(lines) != len(sides[0]):
                raise UserError(f"{path}: {len(lines)} lines, but {paths[0]} has {len(sides[0])}; they must correspond")
        bad = BadRows(paths[0], self.skip_bad)
        found = []
        for number, (*records, text) in enumerate(zip(*sides, strict=True), 1):
            if not text.strip() and not any(map(str.strip, records)):
                continue
            try:
                found.append(TableText(group_records(*map(str.split, records)), clean_text(text, PARTS[-1])))
            except BadRowError as error:
                bad.add(f"line {number}", error)
        bad.finish()
        if not found:
            raise UserError(f"{paths[0]}: no records; expected the types of one sentence's records per line")
        return found


class RotoWireGames:
    """Games with their box scores and reports: a JSON list with `home_line`, `vis_line`, `box_score` and `summary`.

    The rows of a table are the home team, the visitors and the players. A player is of the side of his city, and of
    none if both teams are of the same city. Values that are N/A are left out.

    Args:
        skip_bad: leave unusable games out.
    """

    def __init__(self, skip_bad: bool = False) -> None:
        self.skip_bad = skip_bad

    def __call__(self, files: Sequence[Path]) -> list[TableText]:
        """Read one file.

        Raises:
            UserError: it is missing or broken, or there is not exactly one.
        """
        if len(files) != 1:
            raise UserError(f"data: {len(files)} files; give one JSON file of games")
        games = read_json(files[0])
        if not isinstance(games, list) or not games:
            raise UserError(f"{files[0]}: expected a list of games")
        bad = BadRows(files[0], self.skip_bad)
        found = []
        for number, game in enumerate(games, 1):
            try:
                words = get_field(game, "summary", list)
                found.append(TableText(read_game(game), clean_text(" ".join(map(str, words)), "summary")))
            except BadRowError as error:
                bad.add(f"game {number}", error)
        bad.finish()
        return found


def read_game(game: object) -> Table:
    """Return the table of a game.

    Raises:
        BadRowError: a field is missing or of another kind.
    """
    cities = {side: get_field(game, f"{short}_city", str) for side, short in (("home", "home"), ("away", "vis"))}
    lines = {side: get_field(game, f"{short}_line", dict) for side, short in (("home", "home"), ("away", "vis"))}
    rows = []
    for side, line in lines.items():
        name = get_field(line, "TEAM-NAME", str)
        rows.append(Row(name, _make_cells(name, line), side))
    box = get_field(game, "box_score", dict)
    columns = {kind: get_field(box, kind, dict) for kind in {NAME: None, CITY: None, **box}}
    for index, name in columns[NAME].items():
        city = columns[CITY].get(index)
        own = [side for side, home in cities.items() if city == home]
        stats = {f"PLAYER-{kind}": values.get(index) for kind, values in columns.items() if kind not in REPEATED}
        cells = _make_cells(str(name), {NAME: name, **stats})
        rows.append(Row(str(name), cells, own[0] if len(own) == 1 else ""))
    return tuple(rows)


def _make_cells(entity: str, values: Mapping[str, Any]) -> tuple[Cell, ...]:
    cells = []
    for kind, value in values.items():
        if isinstance(value, list | dict):
            raise BadRowError(f"{kind} of {entity!r}: expected a text or a number, found {type(value).__name__}")
        if value not in (None, "", ABSENT):
            cells.append(Cell(kind, entity, str(value)))
    return tuple(cells)
