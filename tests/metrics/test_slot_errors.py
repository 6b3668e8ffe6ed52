"""Slot errors of texts whose errors are known."""

import pytest

from attendgen.layers.tables import Cell, Row
from attendgen.metrics.protocol import FactMetric, find_fact_metric, score_texts
from attendgen.metrics.slot_errors import SlotErrors
from attendgen.metrics.text import Bleu
from helpers.errors import refusal


def make_table(**slots):
    """A table of slots; an underscore stands for a blank, and a list for several values."""
    rows = []
    for name, values in slots.items():
        slot = name.replace("_", " ")
        found = values if isinstance(values, list) else [values]
        rows.append(Row(slot, tuple(Cell(slot, "", value) for value in found)))
    return tuple(rows)


EAGLE = make_table(
    name="The Eagle",
    eatType="coffee shop",
    food="French",
    priceRange="£20-25",
    customer_rating="3 out of 5",
    area="riverside",
    familyFriendly="no",
    near="Café Rouge",
)
TEXT = (
    "The Eagle is a French coffee shop by the river, near Cafe Rouge. It is rated three stars, has an average price "
    "range, and is not kid-friendly."
)


def count(text, table=EAGLE):
    """All errors of a text: added, missing, wrong."""
    return tuple(map(sum, zip(*SlotErrors().count_errors(text, table).values(), strict=True)))


def find(text, **slots):
    """The one slot of a text with errors, and them."""
    errors = SlotErrors().count_errors(text, make_table(**slots))
    ((slot, counts),) = ((slot, counts) for slot, counts in errors.items() if any(counts))
    return slot, tuple(counts)


def test_a_text_that_says_all_has_no_errors():
    assert count(TEXT) == (0, 0, 0)
    assert count(TEXT.upper()) == (0, 0, 0)
    assert count("The Eagle , a French restaurant and coffee shop - £ 20 - 25 , 3 out of 5 - riverside , "
                 "near Café Rouge . No families .") == (0, 0, 0)  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "errors"),
    [
        ("by the river", "", (0, 1, 0)),
        ("by the river", "in the city centre", (0, 0, 1)),
        ("by the river", "by the river in the city centre", (1, 0, 0)),
        ("French", "Italian", (0, 0, 1)),
        ("average price", "high price", (0, 0, 1)),
        ("three stars", "5 out of 5", (0, 0, 1)),
        ("three stars", "average by 1 out of 5 customers", (0, 0, 1)),
        ("not kid-friendly", "child friendly", (0, 0, 1)),
        ("Cafe Rouge", "Burger King", (0, 0, 1)),
        ("near Cafe Rouge", "near Cafe Rouge and Burger King", (1, 0, 0)),
        ("The Eagle", "It", (0, 1, 0)),
        ("coffee shop", "restaurant", (0, 1, 0)),  # the word for any place is not a wrong value
    ],
)
def test_each_error_is_found(old, new, errors):
    assert old in TEXT
    assert count(TEXT.replace(old, new)) == errors


def test_prices_and_ratings_with_the_same_adjective_are_told_apart():
    slots = {"name": "Cotto", "priceRange": "high", "customer_rating": "average"}
    for text in (
        "Cotto has high prices and an average customer rating",
        "Cotto: average customer rating and high price range",
        "Cotto is expensive. Its rating is average.",
    ):
        assert count(text, make_table(**slots)) == (0, 0, 0)
    assert find("Cotto has an average customer rating", **slots) == ("priceRange", (0, 1, 0))
    assert find("Cotto has a high price", **slots) == ("customer rating", (0, 1, 0))
    assert find("Cotto is highly rated and has a high price", **slots) == ("customer rating", (0, 0, 1))


def test_several_values_of_a_slot_and_slots_of_the_users_own():
    two = make_table(name="Cotto", area=["riverside", "city centre"])
    assert count("Cotto, riverside, city centre", two) == (0, 0, 0)
    assert count("Cotto, riverside", two) == (0, 1, 0)
    own = make_table(name="Cotto", food="Thai", parking="free parking")
    assert count("Cotto has Thai food and free parking", own) == (0, 0, 0)
    assert count("Cotto has French food", own) == (0, 1, 1)


def test_names_in_other_scripts_are_found_and_signs_are_not_counted():
    own = make_table(name="日本", food="寿司", sign="🍕")
    assert count("日本 は 寿司 です", own) == (0, 0, 0)
    assert count("", own) == (0, 2, 0)


def test_rates_are_shares_of_all_values():
    texts = [TEXT, TEXT.replace("by the river", "").replace("French", "Italian"), "Cotto"]
    tables = [EAGLE, EAGLE, make_table(name="Cotto", area="riverside")]
    scores = SlotErrors(by_slot=True).score_tables(texts, [[]] * 3, tables)
    wanted = {"ser": 3, "ser_added": 0, "ser_missing": 2, "ser_wrong": 1, "ser_area": 2, "ser_food": 1}
    assert {name: scores[name] for name in wanted} == {name: pytest.approx(100 * n / 18) for name, n in wanted.items()}
    slots = [name for name in scores if name not in ("ser", "ser_added", "ser_missing", "ser_wrong")]
    assert sum(scores[name] for name in slots) == pytest.approx(scores["ser"])
    assert SlotErrors().count_mistakes(texts[1], EAGLE) == 2


def test_metrics_of_tables_are_scored_beside_others():
    outputs, references = [TEXT], [[TEXT]]
    found = score_texts([Bleu(), SlotErrors()], outputs, references, [EAGLE])
    assert found == {"bleu": pytest.approx(100), "ser": 0, "ser_added": 0, "ser_missing": 0, "ser_wrong": 0}
    refused = refusal(score_texts, [Bleu(), SlotErrors()], outputs, references)
    assert refused.startswith("task.metrics[1]: SlotErrors compares texts with tables")


def test_the_metric_of_facts_is_found_among_others():
    metrics = [Bleu(), SlotErrors()]
    assert isinstance(metrics[1], FactMetric)
    assert find_fact_metric(metrics) is metrics[1]
    assert refusal(find_fact_metric, metrics[:1]).startswith("decoding.facts=true: no metric of task.metrics")
