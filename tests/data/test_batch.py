import torch

from attendgen.data.batch import count_targets, is_token, pad, shift_targets
from attendgen.utils.special_tokens import EOS, PAD, SOS

ROWS = [[5, 6, 7], [], [8]]


def test_mask_recovers_the_rows():
    padded = pad(ROWS)
    assert padded.shape == (3, 3)
    assert padded.dtype == torch.long
    assert [line[mask].tolist() for line, mask in zip(padded, is_token(padded), strict=True)] == ROWS


def test_empty_rows_are_padded_to_one_column():
    assert pad([[], []]).tolist() == [[PAD], [PAD]]
    assert pad([]).shape == (0, 1)


def test_inputs_are_the_outputs_shifted_by_sos():
    inputs, outputs = shift_targets(ROWS)
    for row, before, after in zip(ROWS, inputs.tolist(), outputs.tolist(), strict=True):
        padding = [PAD] * (len(before) - len(row) - 1)
        assert before == [SOS, *row, *padding]
        assert after == [*row, EOS, *padding]


def test_missing_row_is_padding():
    inputs, outputs = shift_targets([[5], None])
    assert is_token(inputs).tolist() == is_token(outputs).tolist() == [[True, True], [False, False]]
    assert not is_token(shift_targets([None])[1]).any()


def test_totals_count_examples_sequences_and_tokens():
    outputs = torch.tensor([[[5, EOS, PAD], [6, 7, EOS]], [[8, EOS, PAD], [PAD, PAD, PAD]]])
    assert [number.item() for number in count_targets(outputs)] == [2, 3, 7]
    assert [number.item() for number in count_targets(outputs[:, 0])] == [2, 2, 4]
