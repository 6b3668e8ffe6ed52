from functools import partial

import pytest
import torch

from attendgen.layers.attention import AdditiveAttention, GeneralAttention, MeanAttention
from attendgen.losses.cross_entropy import doubly_stochastic, masked_cross_entropy
from attendgen.models.captioner import Captioner
from attendgen.models.encoders.small_cnn import SmallCNN
from attendgen.testing import check_model
from helpers.stepwise import teacher_forced

VOCAB_SIZE, SIZE = 9, 16
VARIANTS = {
    "as in the paper": {"attention": partial(AdditiveAttention, dim=6)},
    "no gate, no deep output": {"attention": GeneralAttention, "context_gate": "none", "deep_output": False},
    "no attention": {"attention": MeanAttention, "context_gate": "none"},
    "vector gate, two layers": {
        "attention": partial(AdditiveAttention, dim=6, activation="relu", layers=2),
        "context_gate": "vector",
        "init_state_layers": 2,
    },
    "reduced features": {"attention": GeneralAttention, "feature_dim": 5},
}


@pytest.fixture(params=VARIANTS)
def model(request):
    encoder = SmallCNN((4, 6), size=SIZE)
    return Captioner(VOCAB_SIZE, encoder, embedding_dim=7, hidden=8, **VARIANTS[request.param]).eval()


def make_images(number: int) -> torch.Tensor:
    return torch.randint(0, 256, (number, 3, SIZE, SIZE), dtype=torch.uint8)


def test_captions_of_several_images_equal_each_caption_alone(model):
    images, inputs = make_images(3), torch.randint(1, VOCAB_SIZE, (3, 2, 5))
    lengths = torch.tensor([[5, 3], [1, 4], [2, 0]])  # the last image has one caption only
    inputs = inputs.masked_fill(torch.arange(5) >= lengths.unsqueeze(-1), 0)
    logits, alphas = model(images, inputs)
    for i in range(3):
        for c, length in enumerate(lengths[i].tolist()):
            if length:
                alone, alpha = model(images[i : i + 1], inputs[i : i + 1, c : c + 1, :length])
                torch.testing.assert_close(logits[i, c, :length], alone[0, 0])
                torch.testing.assert_close(alphas[i, c, :length], alpha[0, 0])


def test_an_image_is_encoded_once_for_all_its_captions(model):
    seen = []
    model.encoder.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    model(make_images(2), torch.randint(1, VOCAB_SIZE, (2, 5, 3)))
    assert seen == [2]


def test_cached_features_give_the_results_of_images(model):
    images, inputs = make_images(2), torch.randint(1, VOCAB_SIZE, (2, 1, 4))
    features = model.encoder(images)
    for left, right in zip(model(features, inputs), model(images, inputs), strict=True):
        torch.testing.assert_close(left, right)


def test_attention_weights_are_a_distribution_over_the_grid(model):
    _, alphas = model(make_images(2), torch.randint(1, VOCAB_SIZE, (2, 1, 4)))
    assert alphas.shape == (2, 1, 4, (SIZE // 4) ** 2)
    torch.testing.assert_close(alphas.sum(dim=-1), torch.ones(2, 1, 4))


def test_it_computes_one_function(model):
    check_model(model, make_images(3), torch.randint(1, VOCAB_SIZE, (3, 2, 5)), half_tolerance=None)


def test_deep_output_is_equation_7():
    model = Captioner(
        VOCAB_SIZE, SmallCNN((4,), size=SIZE), partial(AdditiveAttention, dim=6), embedding_dim=7, hidden=8
    ).eval()
    word, hidden, context = torch.randn(2, 7), torch.randn(2, 8), torch.randn(2, 4)
    context_output = context @ model.deep_context.weight.T
    inner = word + hidden @ model.deep_hidden.weight.T + model.deep_hidden.bias + context_output
    torch.testing.assert_close(
        model.logits(word, hidden, context_output), torch.tanh(inner) @ model.output.weight.T + model.output.bias
    )


def test_the_first_state_depends_on_the_mean_feature_only():
    model = Captioner(
        VOCAB_SIZE, SmallCNN((4,), size=SIZE), partial(AdditiveAttention, dim=6), embedding_dim=7, hidden=8
    ).eval()
    features = torch.randn(1, 10, 4)
    _, state = model.encode(features)
    _, shuffled = model.encode(features[:, torch.randperm(10)])
    torch.testing.assert_close(tuple(state), tuple(shuffled))
    mean = features.mean(dim=1)
    torch.testing.assert_close(state.hidden, torch.tanh(mean @ model.first_hidden.weight.T + model.first_hidden.bias))


def test_a_frozen_encoder_does_not_change_while_the_other_parameters_have_gradients():
    encoder = SmallCNN((4, 6), size=SIZE, freeze=True)
    model = Captioner(VOCAB_SIZE, encoder, partial(AdditiveAttention, dim=6), embedding_dim=7, hidden=8).train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    logits, _ = model(make_images(4), torch.randint(1, VOCAB_SIZE, (4, 2, 5)))
    logits.square().sum().backward()
    assert model.decoder.training
    assert not any(module.training for module in encoder.modules())
    assert all(parameter.grad is None for parameter in encoder.parameters())
    for name, value in encoder.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    others = [p for name, p in model.named_parameters() if not name.startswith("encoder.")]
    assert all(parameter.grad.any() for parameter in others)


def test_an_encoder_that_is_not_frozen_has_gradients():
    model = Captioner(
        VOCAB_SIZE, SmallCNN((4, 6), size=SIZE), partial(AdditiveAttention, dim=6), embedding_dim=7, hidden=8
    ).train()
    logits, _ = model(make_images(4), torch.randint(1, VOCAB_SIZE, (4, 2, 5)))
    logits.square().sum().backward()
    assert all(parameter.grad.any() for parameter in model.encoder.parameters())


@pytest.mark.parametrize("feature_dim", [None, 5])
@pytest.mark.parametrize(("regions", "captions"), [(4, 3), (40, 1)], ids=["many steps", "many regions"])
def test_loss_and_gradients_equal_the_equations_step_by_step(feature_dim, regions, captions):
    model = Captioner(
        VOCAB_SIZE, SmallCNN((60,), size=SIZE), partial(AdditiveAttention, dim=6), 7, 8, feature_dim, dropout=0.0
    )
    words = torch.randint(4, VOCAB_SIZE, (2, captions, 6))
    words[0, 0, 4:] = 0
    features = torch.randn(2, regions, 60)

    def run(forward) -> dict[str, torch.Tensor]:
        model.zero_grad()
        logits, alphas = forward(features, words[..., :-1])
        nll, count = masked_cross_entropy(logits, words[..., 1:])
        loss = nll / count + 0.5 * doubly_stochastic(alphas, words[..., 1:] > 0).mean()
        loss.backward()
        found = {name: p.grad.clone() for name, p in model.named_parameters() if not name.startswith("encoder.")}
        return {"loss": loss.detach(), **found}

    found = run(model)
    for name, value in run(partial(teacher_forced, model)).items():
        assert value.any(), name
        torch.testing.assert_close(found[name], value, atol=1e-5, rtol=1e-5)
