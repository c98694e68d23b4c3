"""The classifier of noisy images."""

from __future__ import annotations

import pytest
import torch

from dit_exp.model.classifier import NoisyClassifier


def test_it_names_classes_whatever_the_image_s_sides_and_hears_the_time():
    torch.manual_seed(0)
    model = NoisyClassifier((3, 8, 12), 0, 10, width=16, depth=2)
    x = torch.randn(2, 3, 8, 12)
    early, late = model(x, torch.tensor([10.0, 10.0])), model(x, torch.tensor([900.0, 900.0]))
    assert early.shape == (2, 10)
    assert not torch.allclose(early, late, atol=1e-4)
    assert torch.equal(model(x, torch.tensor([10.0, 10.0]), torch.tensor([1, 2])), early)


def test_images_of_a_batch_do_not_meet():
    torch.manual_seed(0)
    model, x, t = NoisyClassifier((3, 8, 8), 0, 10, width=16, depth=2), torch.randn(3, 3, 8, 8), torch.ones(3)
    torch.testing.assert_close(model(x, t)[1:2], model(x[1:2], t[1:2]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (((3, 8, 8), 0, 0), r"needs data with classes"),
        (((3, 8, 8), 3, 10), r"predicts no image. Train it with task=classifier objective=classification"),
        (((3, 8, 8), 0, 10, 12), r"model.width=12 must be a multiple of 8"),
        (((3, 8, 8), 0, 10, 16, 4), r"model.depth=4 halves an input of 8x8 too often"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, text):
    with pytest.raises(ValueError, match=text):
        NoisyClassifier(*arguments)
