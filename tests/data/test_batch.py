import torch

from attendgen.data.batch import is_token, pad
from attendgen.utils.special_tokens import EOS, PAD, SOS

ROWS = [[5, 6, 7], [], [8]]


def test_padding_is_undone_by_the_mask():
    padded = pad(ROWS)
    assert padded.shape == (3, 3)
    assert padded.dtype == torch.long
    assert [line[mask].tolist() for line, mask in zip(padded, is_token(padded), strict=True)] == ROWS


def test_nothing_is_padded_to_one_column():
    assert pad([[], []]).tolist() == [[PAD], [PAD]]
    assert pad([]).shape == (0, 1)


def test_inputs_are_outputs_one_step_before():
    inputs, outputs = shift_targets(ROWS)
    for row, before, after in zip(ROWS, inputs.tolist(), outputs.tolist(), strict=True):
        padding = [PAD] * (len(before) - len(row) - 1)
        assert before == [SOS, *row, *padding]
        assert after == [*row, EOS, *padding]


def test_a_missing_row_asks_for_nothing():
    inputs, outputs = shift_targets([[5], None])
    assert is_token(inputs).tolist() == is_token(outputs).tolist() == [[True, True], [False, False]]
    assert not is_token(shift_targets([None])[1]).any()
