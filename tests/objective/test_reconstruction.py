"""What an autoencoder's loss is made of, and the readings of its codebook."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from dit_exp.discriminator.none import NoDiscriminator
from dit_exp.objective.reconstruction import Reading, Reconstruction
from dit_exp.perceptual.none import NoPerceptual
from dit_exp.types.training import Reconstructed

CODES = 8


class Coder:
    """Answers with a constant error and with codes that it was given; remembers what was restarted."""

    codebook_size = CODES

    def __init__(self, codes: list[list[int]], error: float = 0.5) -> None:
        self.codes, self.error, self.dead = iter(codes), error, []
        self.last_layer = nn.Parameter(torch.ones(1))

    def __call__(self, x: Tensor) -> Reconstructed:
        codes = torch.tensor(next(self.codes)).reshape(len(x), 1, -1)
        latent = torch.arange(len(x) * codes.shape[2] * 4.0).reshape(len(x), 4, 1, -1)
        return Reconstructed(x + self.error * self.last_layer, torch.full((len(x),), 0.25), latent, codes)

    def restart(self, vectors: Tensor, dead: Tensor) -> int:
        self.dead.append((vectors, dead))
        return int(dead.sum())


class Judge(NoDiscriminator):
    """A penalty of 2, and a note of what it was shown."""

    def __init__(self) -> None:
        self.seen, self.asked = [], []

    def penalty(self, image: Tensor, rest: Tensor, last_layer: Tensor, step: int) -> Tensor:
        self.asked.append((step, rest))
        return torch.full_like(rest, 2.0)

    def learn(self, pieces, step: int) -> None:
        self.seen.append((step, pieces))


class Eye(NoPerceptual):
    def __call__(self, image: Tensor, other: Tensor) -> Tensor:
        return torch.full((len(image),), 1.0)


def objective(coder: Coder, exponent: float = 1.0, every: int = 2, judge=None, readings=None):
    report = [] if readings is None else readings
    return Reconstruction(coder, exponent, Eye(), judge or Judge(), every, report.append)


@pytest.mark.parametrize(("exponent", "error"), [(1.0, 0.5), (2.0, 0.25)])
def test_the_loss_is_the_sum_of_its_parts(exponent: float, error: float):
    coder, judge = Coder([[0, 1]]), Judge()
    ours = objective(coder, exponent, judge=judge)
    x = torch.zeros(2, 3, 4, 4)
    loss = ours.loss(coder, x, torch.tensor([1, 2]))
    assert loss.tolist() == pytest.approx([error + 1.0 + 2.0 + 0.25] * 2)
    # The judge's share is balanced against what is not the judge's and not the latents'.
    assert judge.asked[0][1].tolist() == pytest.approx([error + 1.0] * 2)
    means = ours.means()
    assert means == pytest.approx({"pixel": error, "perceptual": 1.0, "adversarial": 2.0, "latent": 0.25})
    assert ours.means() == {}


def test_the_judge_is_shown_every_piece_without_a_way_back_and_the_step_s_number():
    coder, judge = Coder([[0, 1], [2, 3], [4, 5]]), Judge()
    ours = objective(coder, judge=judge)
    first, second = torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4)
    for x in (first, second):
        ours.loss(coder, x, None)
    ours.learn()
    ours.loss(coder, first, None)
    ours.learn()
    assert [(step, len(pieces)) for step, pieces in judge.seen] == [(0, 2), (1, 1)]
    image, made = judge.seen[0][1][1]
    assert torch.equal(image, second)
    assert torch.equal(made, second + 0.5)
    assert not made.requires_grad


def test_a_reading_counts_codes_and_says_perplexity_and_restarts_the_unused():
    readings: list[Reading] = []
    coder = Coder([[0, 0, 1, 1], [3, 3, 3, 3]])
    ours = objective(coder, readings=readings)
    for _ in range(2):
        ours.loss(coder, torch.zeros(2, 3, 4, 4), None)
        ours.learn()
    [reading] = readings
    entropy = -(2 * 0.25 * math.log(0.25) + 0.5 * math.log(0.5))
    assert reading.perplexity == pytest.approx(math.exp(entropy))
    assert (reading.step, reading.codes, reading.used, reading.restarted) == (2, 8, 3, 5)
    vectors, dead = coder.dead[0]
    assert dead.tolist() == [False, False, True, False, True, True, True, True]
    assert vectors.tolist()[0] == [0.0, 2.0, 4.0, 6.0]  # a place's four channels, two places an image
    assert not ours.usage.any()


def test_codes_of_all_ranks_are_counted():
    coder = Coder([[0, 0]])
    ours = objective(coder, every=10)
    ours.loss(coder, torch.zeros(2, 3, 4, 4), None)
    ours.learn(lambda codes: torch.cat([codes, torch.tensor([7, 7])]))
    assert ours.usage.tolist() == [2, 0, 0, 0, 0, 0, 0, 2]


def test_the_state_goes_on_where_it_was():
    coder = Coder([[0, 1], [2, 2]])
    ours = objective(coder, every=10)
    for _ in range(2):
        ours.loss(coder, torch.zeros(2, 3, 4, 4), None)
        ours.learn()
    other = objective(coder)
    other.load_state_dict(ours.state_dict())
    assert other.step == 2
    assert other.usage.tolist() == [1, 1, 2, 0, 0, 0, 0, 0]
    assert list(ours.parameters()) == []  # the judge's are not the main optimizer's
