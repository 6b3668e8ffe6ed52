"""Human captions are scored against the other captions of their image, and the model against as many."""

import pytest

from attendgen.metrics.captions import score_captions

REFERENCES = {
    0: ["a dog runs over the grass", "a brown dog runs", "the dog runs on grass"],
    1: ["two men ride a red bike", "men on a bike", "two men ride on a bike"],
}


def test_a_person_is_never_compared_with_oneself(load_script):
    script = load_script("human_captions")
    scores = script.score_leaving_one_out(None, REFERENCES)
    (first, second, third) = (
        score_captions({0: dog, 1: bike}, {0: dogs, 1: bikes})["bleu1"]
        for dog, dogs, bike, bikes in (
            (REFERENCES[0][0], REFERENCES[0][1:], REFERENCES[1][0], REFERENCES[1][1:]),
            (REFERENCES[0][1], REFERENCES[0][::2], REFERENCES[1][1], REFERENCES[1][::2]),
            (REFERENCES[0][2], REFERENCES[0][:2], REFERENCES[1][2], REFERENCES[1][:2]),
        )
    )
    assert scores["bleu1"] == pytest.approx((first + second + third) / 3)
    assert scores["bleu1"] < 1


def test_a_model_that_copies_one_person_is_perfect_unless_this_one_is_left_out(load_script):
    script = load_script("human_captions")
    copied = {index: texts[0] for index, texts in REFERENCES.items()}
    missed = score_captions(copied, {index: texts[1:] for index, texts in REFERENCES.items()})["bleu1"]
    assert script.score_leaving_one_out(copied, REFERENCES)["bleu1"] == pytest.approx((missed + 1 + 1) / 3)
