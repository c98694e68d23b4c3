"""Classifier-free guidance against its formula, and what all guidances of its kind share."""

from __future__ import annotations

import pytest
import torch
from echo import LABEL, NULL, Echo, T, X

from dit_exp.guidance.cfg import ClassifierFreeGuidance


def test_scale_2_goes_as_far_beyond_the_label_as_the_null_is_before_it():
    said = ClassifierFreeGuidance(NULL, scale=2.0)(Echo(), X, T, LABEL)
    assert said.x0[:, 0, 0, 0].tolist() == [10 + 2 * (2 - 10), 10 + 2 * (5 - 10)]


def test_scale_1_is_the_label_alone_and_costs_one_pass():
    denoise = Echo()
    said = ClassifierFreeGuidance(NULL, scale=1.0)(denoise, X, T, LABEL)
    assert said.x0[:, 0, 0, 0].tolist() == [2, 5]
    assert denoise.images == 2


def test_scale_0_is_the_null_label_alone():
    said = ClassifierFreeGuidance(NULL, scale=0.0)(Echo(), X, T, LABEL)
    assert said.x0.unique().tolist() == [NULL]


@pytest.mark.parametrize(
    ("channels", "guided"), [("all", [0, 1, 2, 3]), (3, [0, 1, 2]), ([1, 3], [1, 3]), (9, [0, 1, 2, 3])]
)
def test_only_the_chosen_channels_are_guided(channels, guided):
    said = ClassifierFreeGuidance(NULL, scale=2.0, channels=channels)(Echo(), X, T, LABEL)
    assert said.x0[0, :, 0, 0].tolist() == [-6 if c in guided else 2 for c in range(4)]


def test_a_learned_variance_stays_as_the_label_predicts_it():
    said = ClassifierFreeGuidance(NULL, scale=2.0)(Echo(variance=True), X, T, LABEL)
    assert said.x0[0].unique().tolist() == [-6]
    assert said.variance[:, 0, 0, 0].tolist() == [102, 105]


def test_the_pair_still_adds_up_to_x():
    g = torch.Generator().manual_seed(0)
    x, t = torch.randn(2, 4, 2, 2, generator=g), torch.tensor([0.3, 0.9])
    said = ClassifierFreeGuidance(NULL, scale=4.0, channels=2)(Echo(), x, t, LABEL)
    alpha, sigma = (1 - t)[:, None, None, None], t[:, None, None, None]
    torch.testing.assert_close(alpha * said.x0 + sigma * said.noise, x, rtol=1e-5, atol=1e-5)


def test_at_pure_noise_guidance_moves_the_image_and_leaves_the_noise():
    said = ClassifierFreeGuidance(NULL, scale=2.0)(Echo(), X + 1, torch.ones(2), LABEL)
    assert said.x0[:, 0, 0, 0].tolist() == [-6, 0]
    assert said.noise.unique().tolist() == [1]


def test_both_halves_see_the_same_input_the_label_first():
    denoise = Echo()
    ClassifierFreeGuidance(NULL, scale=3.0)(denoise, torch.randn(2, 4, 2, 2), T, LABEL)
    [(x, t, label)] = denoise.calls
    assert torch.equal(x[:2], x[2:])
    assert torch.equal(t[:2], t[2:])
    assert label.tolist() == [2, 5, NULL, NULL]


def test_scales_and_labels_may_differ_within_a_batch():
    scales, labels = torch.tensor([1.0, 3.0, 0.0, 1.0]), torch.tensor([2, 5, 7, NULL])
    x, t = torch.randn(4, 4, 2, 2), torch.tensor([0.2, 0.4, 0.6, 0.8])
    together = ClassifierFreeGuidance(NULL, scale=scales)(Echo(), x, t, labels)
    for i in range(4):
        one = slice(i, i + 1)
        alone = ClassifierFreeGuidance(NULL, scale=float(scales[i]))(Echo(), x[one], t[one], labels[one])
        torch.testing.assert_close(together.x0[one], alone.x0)
        torch.testing.assert_close(together.noise[one], alone.noise)


def test_without_skipping_a_guided_and_an_unguided_batch_have_one_shape_and_are_compiled_once():
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    class Compiled(Echo):
        """The network's part alone, as it is compiled, with guidance around it."""

        def __init__(self):
            super().__init__()
            self.pixels = torch.compile(lambda x, label: x + label[:, None, None, None], backend=backend)

        def __call__(self, x, t, label):
            return super().__call__(x, t, label)._replace(x0=self.pixels(torch.zeros_like(x), label))

    torch._dynamo.reset()
    denoise = Compiled()
    for scale in (torch.tensor([1.0, 2.0]), torch.tensor([1.0, 1.0]), torch.tensor([3.0, 0.0])):
        said = ClassifierFreeGuidance(NULL, scale=scale, skip=False)(denoise, X, T, LABEL)
        expected = [NULL + float(w) * (int(y) - NULL) for w, y in zip(scale, LABEL, strict=True)]
        assert said.x0[:, 0, 0, 0].tolist() == expected
    assert [len(x) for x, _, _ in denoise.calls] == [4, 4, 4]
    assert len(graphs) == 1


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match=r"needs a model with a null label.*class_dropout=0.1"):
        ClassifierFreeGuidance(None)
    for channels in ("first", 0):
        with pytest.raises(ValueError, match=rf"guidance.channels={channels} must be all, a number"):
            ClassifierFreeGuidance(NULL, channels=channels)
