"""What the benchmarks compare computes the same."""

import copy

import pytest
import torch

VOCAB, REGIONS, DIM = 9, 4, 6
SIZES = {"vocab_size": VOCAB, "attention_dim": 5, "embedding_dim": 7, "hidden": 8}


@pytest.mark.parametrize("way", ["equations", "fast"])
def test_a_captioner_has_the_logits_and_gradients_of_the_reference(load_script, way):
    captioner = load_script("benchmarks/captioner")
    model = captioner.build_model(way, DIM, **SIZES).eval()  # without dropout, whose masks would differ
    reference = copy.deepcopy(model)
    features, tokens = torch.randn(2, REGIONS, DIM), torch.randint(4, VOCAB, (2, 3, 6))
    batch = (features, tokens[..., :-1], tokens[..., 1:])
    torch.testing.assert_close(model(*batch[:2]), captioner.run_reference(reference, *batch[:2]))
    captioner.run_step(model, way, *batch)
    captioner.run_step(reference, "reference", *batch)
    for name, parameter in model.decoder.named_parameters():
        torch.testing.assert_close(parameter.grad, reference.decoder.get_parameter(name).grad)


def test_a_beam_search_by_hypothesis_finds_what_the_batched_one_finds(load_script):
    decoding = load_script("benchmarks/decoding")
    model, make_inputs, length = decoding.build_families([3, 3, 3])["language model"]
    inputs = make_inputs(2)
    _, expected = decoding.time_decoding(model.eval(), inputs, length, beam_size=3, batch_size=None)
    _, found = decoding.time_decoding(model, inputs, length, beam_size=3, batch_size=2)
    assert found == expected
