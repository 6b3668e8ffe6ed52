"""Tiny data sets of tables and texts, in the layouts of the real ones."""

import json
from pathlib import Path

PLACES = (
    ("The Eagle", "French", "riverside"),
    ("Zizzi", "Italian", "city centre"),
    ("The Mill", "Indian", "riverside"),
)
PLAYERS = (("Al Horford", "17"), ("Ron Baker", "8"), ("Kyle Korver", "21"))


def e2e(root: Path) -> Path:
    """Three restaurants with two texts each, as CSV files and as the two tokenized ones."""
    root.mkdir(parents=True, exist_ok=True)
    rows, tables, texts = [], [], []
    for name, food, area in PLACES:
        for text in (f"{name} serves {food} food in the {area} .", f"In the {area} there is {name} , a {food} place ."):
            rows.append(f'"name[{name}], food[{food}], area[{area}]","{text}"')
            slots = {"name": name, "food": food, "area": area}
            tables.append(" ".join(f"__start_{slot}__ {value} __end_{slot}__" for slot, value in slots.items()))
            texts.append(f"{text} <eos>|||0,1,0")
    for file in ("train_cleaned", "dev"):
        (root / f"{file}.csv").write_text("\n".join(["mr,ref", *rows]) + "\n", encoding="utf-8")
    (root / "src_train.txt").write_text("\n".join(tables) + "\n", encoding="utf-8")
    (root / "train.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    return root


def rotowire(root: Path) -> Path:
    """Sentences about three players, and two games of theirs."""
    root.mkdir(parents=True, exist_ok=True)
    names = [(name.replace(" ", "_"), points) for name, points in PLAYERS]
    parts = {
        "x_type": ["PLAYER_NAME PLAYER-PTS"] * len(names),
        "x_value": [f"{name} {points}" for name, points in names],
        "x_associated": [f"{name} {name}" for name, _ in names],
        "y_aux": [f"{name} had {points} points ." for name, points in names],
    }
    games = [make_game(*names) for names in (PLAYERS[:2], PLAYERS[1:])]
    for split in ("train", "valid"):
        for part, lines in parts.items():
            (root / f"{part}.{split}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (root / f"{split}.json").write_text(json.dumps(games), encoding="utf-8")
    return root


def make_game(first: tuple[str, str], second: tuple[str, str]) -> dict[str, object]:
    """A game of Boston against New York with a player each."""
    players = {"0": first, "1": second}
    box = {
        "PLAYER_NAME": {key: name for key, (name, _) in players.items()},
        "FIRST_NAME": {key: name.split()[0] for key, (name, _) in players.items()},
        "SECOND_NAME": {key: name.split()[1] for key, (name, _) in players.items()},
        "TEAM_CITY": {"0": "Boston", "1": "New York"},
        "PTS": {key: points for key, (_, points) in players.items()},
    }
    return {
        "home_city": "Boston",
        "vis_city": "New York",
        "home_name": "Celtics",
        "vis_name": "Knicks",
        "home_line": {"TEAM-NAME": "Celtics", "TEAM-CITY": "Boston", "TEAM-PTS": "101"},
        "vis_line": {"TEAM-NAME": "Knicks", "TEAM-CITY": "New York", "TEAM-PTS": "99"},
        "box_score": box,
        "summary": f"The Celtics beat the Knicks 101 - 99 . {first[0]} had {first[1]} points .".split(),
    }
