"""Sentences that are hard to split into words."""

SENTENCES = (
    "L'eau n'est pas chaude, dit-elle.",
    '"Où vas-tu ?" -- (nulle part...)',
    "snake_case __init__ a.b.c 3,14 € 50 %",
    "Wait!! What?!... don't: it's 5-year-old's",
    "naïve œuvre ДОМ 日本語。",
    "'quoted' ''twice''",
    "a",
    ".",
)


def collapse_spaces(text: str) -> str:
    return " ".join(text.split())
