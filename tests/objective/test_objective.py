"""Predictions convert into each other, and their losses are what the papers say."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from dit_exp.objective.edm import PreconditionedPrediction
from dit_exp.objective.eps import NoisePrediction
from dit_exp.objective.eps_hybrid import HybridNoisePrediction, discretized_log_likelihood
from dit_exp.objective.flow import FlowPrediction
from dit_exp.objective.v import VelocityPrediction
from dit_exp.objective.x import ImagePrediction
from dit_exp.objective.x_velocity import ImageAsVelocity
from dit_exp.process.cosine import Cosine
from dit_exp.process.edm import EDM
from dit_exp.process.flow import Flow
from dit_exp.process.gvp import GVP
from dit_exp.process.linear import Linear
from dit_exp.process.quadratic import Quadratic
from dit_exp.process.sigmoid import Sigmoid
from dit_exp.process.subvp import SubVP
from dit_exp.process.vp import VP
from dit_exp.timesteps.importance import Importance
from dit_exp.timesteps.uniform import Uniform
from dit_exp.weighting.edm import EDMWeighting
from dit_exp.weighting.min_snr import MinSNR

SHAPE = (16, 3, 4, 4)


def made(kind, process):
    return kind(process=process, timesteps=Uniform())


PROCESSES = [
    Linear(), Cosine(), Quadratic(), Sigmoid(), Linear(zero_terminal_snr=True),
    Flow(), GVP(), VP(), SubVP(), EDM(),
]  # fmt: skip
PREDICTIONS = [
    NoisePrediction, ImagePrediction, VelocityPrediction, FlowPrediction, PreconditionedPrediction,
    ImageAsVelocity,
]  # fmt: skip
NO_SIGNAL = [Flow(), GVP(), Linear(zero_terminal_snr=True)]


def name(part) -> str:
    return getattr(part, "__name__", type(part).__name__)


def valid(kind, process) -> bool:
    return kind is not NoisePrediction or float(process.coefficients(torch.ones(1).double())[0]) > 1e-9


PAIRS = [pair for pair in itertools.product(PREDICTIONS, PROCESSES) if valid(*pair)]


@pytest.mark.parametrize(("kind", "process"), PAIRS, ids=name)
def test_the_true_target_gives_back_image_and_noise(kind, process):
    objective = made(kind, process)
    g = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, *SHAPE, generator=g, dtype=torch.float64)
    t = process.times(torch.linspace(0.1, 0.95, 16, dtype=torch.float64))
    if kind is ImageAsVelocity:
        t = t.clamp(min=float(process.time_at(torch.tensor(0.06))))  # below its floor x0 is mixed with x_t
    alpha, sigma = (v[:, None, None, None] for v in process.coefficients(t))
    said = objective.denoised(objective.target(x0, noise, t), alpha * x0 + sigma * noise, t)
    torch.testing.assert_close(said.x0, x0, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(said.noise, noise, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("kind", "process"), PAIRS, ids=name)
def test_the_pair_of_any_output_is_finite_at_the_start_and_adds_up_to_x(kind, process):
    objective = made(kind, process)
    t = torch.cat([torch.ones(4), process.times(torch.linspace(0.05, 0.9, 12))]).double()
    x_t, out = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    said = objective.denoised(out, x_t, t)
    alpha, sigma = (v[:, None, None, None] for v in process.coefficients(t))
    assert said.x0.isfinite().all()
    torch.testing.assert_close(alpha * said.x0 + sigma * said.noise, x_t, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("kind", "process"), PAIRS, ids=name)
def test_image_error_is_how_much_of_an_error_reaches_x0(kind, process):
    objective = made(kind, process)
    t = process.times(torch.linspace(0.3, 0.95, 16, dtype=torch.float64))
    x0, noise, wrong = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(0)).double()
    alpha, sigma = (v[:, None, None, None] for v in process.coefficients(t))
    x_t = alpha * x0 + sigma * noise
    out = objective.target(x0, noise, t) + wrong
    reached = (objective.denoised(out, x_t, t).x0 - x0).square().flatten(1).mean(1)
    ours = objective.distance(out, x0, noise, t) * objective.image_error(t)
    torch.testing.assert_close(ours, reached, rtol=1e-6, atol=1e-12)


def test_targets_are_the_papers():
    x0, noise = torch.randn(2, *SHAPE)
    t = torch.full((16,), 0.5)
    a, s = Linear().coefficients(t[:1])
    assert torch.equal(made(NoisePrediction, Linear()).target(x0, noise, t), noise)
    assert torch.equal(made(ImagePrediction, Linear()).target(x0, noise, t), x0)
    torch.testing.assert_close(made(VelocityPrediction, Linear()).target(x0, noise, t), a * noise - s * x0)
    torch.testing.assert_close(made(VelocityPrediction, Flow()).target(x0, noise, t), noise - x0)


def test_the_flow_s_target_is_the_slope_of_the_path():
    x0, noise = torch.randn(2, *SHAPE, dtype=torch.float64)
    t = torch.linspace(0.1, 0.9, 16, dtype=torch.float64)
    for process in (Flow(), GVP(), VP(), SubVP(), EDM()):

        def path(t, process=process):
            alpha, sigma = (v[:, None, None, None] for v in process.coefficients(t))
            return alpha * x0 + sigma * noise

        slope = (path(t + 1e-6) - path(t - 1e-6)) / 2e-6
        torch.testing.assert_close(
            made(FlowPrediction, process).target(x0, noise, t), slope, rtol=1e-6, atol=1e-6
        )
    same = made(VelocityPrediction, Flow()).target(x0, noise, t)
    torch.testing.assert_close(made(FlowPrediction, Flow()).target(x0, noise, t), same)


def test_edm_s_output_passes_through_its_table_s_preconditioning():
    process, d = EDM(), 0.5
    objective = made(PreconditionedPrediction, process)
    t = process.times(torch.linspace(0.1, 1, 16, dtype=torch.float64))
    x_t, out = torch.randn(2, *SHAPE, dtype=torch.float64)
    s = process.coefficients(t)[1][:, None, None, None]
    c_skip, c_out = d**2 / (s**2 + d**2), s * d / (s**2 + d**2).sqrt()
    torch.testing.assert_close(objective.denoised(out, x_t, t).x0, c_skip * x_t + c_out * out)
    torch.testing.assert_close(objective.image_error(t), c_out.flatten() ** 2)


def test_edm_s_target_has_unit_variance_at_every_level_and_process():
    g = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 200_000, 1, 1, 1, generator=g, dtype=torch.float64)
    for process in (EDM(), Flow(), Cosine()):
        objective = made(PreconditionedPrediction, process)
        for u in (0.2, 0.6, 1.0):
            t = process.times(torch.full((200_000,), u, dtype=torch.float64))
            assert float(objective.target(0.5 * x0, noise, t).var()) == pytest.approx(1, abs=0.02)


def test_edm_with_unit_data_on_preserved_variance_is_v_with_its_sign_turned():
    process = VP()
    x0, noise = torch.randn(2, *SHAPE, dtype=torch.float64)
    t = torch.linspace(0.1, 0.9, 16, dtype=torch.float64)
    ours = PreconditionedPrediction(process, Uniform(), sigma_data=1.0).target(x0, noise, t)
    torch.testing.assert_close(ours, -made(VelocityPrediction, process).target(x0, noise, t))


@pytest.mark.parametrize(
    ("process", "weighting", "text"),
    [
        (EDM(sigma_data=1.0), None, r"objective.sigma_data=0.5 and process.sigma_data=1.0"),
        (EDM(), EDMWeighting(sigma_data=1.0), r"objective.sigma_data=0.5 and weighting.sigma_data=1.0"),
    ],
)
def test_two_deviations_of_one_data_set_are_refused(process, weighting, text):
    with pytest.raises(ValueError, match=text):
        PreconditionedPrediction(process, Uniform(), weighting)


def test_jit_s_loss_and_its_sampler_s_velocity_share_one_floor():
    """The paper's v = (x - z) / max(1 - t', 0.05), whose t' = 1 - t runs to data."""
    objective = made(ImageAsVelocity, Flow())
    x0, noise, out = torch.randn(3, *SHAPE, dtype=torch.float64)
    t = torch.linspace(1e-4, 1, 16, dtype=torch.float64)
    at = t[:, None, None, None]
    z = (1 - at) * x0 + at * noise
    said_v, true_v = ((image - z) / at.clamp(min=0.05) for image in (out, x0))
    loss = (said_v - true_v).square().flatten(1).mean(1)
    torch.testing.assert_close(objective.error(out, x0, noise, z, t), loss)
    said = objective.denoised(out, z, t)
    torch.testing.assert_close(said.noise - said.x0, -said_v)  # dx/dt, with t running to noise


def test_jit_s_velocity_is_v_where_the_floor_is_not_reached():
    for process in (Linear(), EDM(), Flow()):
        x0, noise = torch.randn(2, *SHAPE, dtype=torch.float64)
        t = process.times(torch.linspace(0.5, 1, 16, dtype=torch.float64))
        jit, v = made(ImageAsVelocity, process), made(VelocityPrediction, process)
        alpha, sigma = (c[:, None, None, None] for c in process.coefficients(t))
        x_t, wrong = alpha * x0 + sigma * noise, x0 + 0.1
        said = jit.denoised(wrong, x_t, t)
        ours = jit.error(wrong, x0, noise, x_t, t)
        torch.testing.assert_close(ours, v.error(v.target(said.x0, said.noise, t), x0, noise, x_t, t))


def test_the_loss_of_a_silent_network_is_the_mean_square_of_the_target_image_by_image():
    torch.manual_seed(0)
    x0 = torch.zeros(20_000, 1, 2, 2)
    loss = made(NoisePrediction, Linear()).loss(lambda x, t, y: torch.zeros_like(x), x0, None)
    assert loss.shape == (20_000,)
    assert float(loss.mean()) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("process", NO_SIGNAL, ids=name)
@pytest.mark.parametrize("kind", [NoisePrediction, HybridNoisePrediction], ids=name)
def test_noise_prediction_on_a_path_that_ends_in_pure_noise_is_refused(kind, process):
    with pytest.raises(ValueError, match=r"Use objective=v or|Use process=linear"):
        made(kind, process)


class Alternating(Uniform):
    """Times that learn: it notes what it is shown and weighs every second draw 3, the others 1."""

    learns = True

    def __init__(self):
        super().__init__()
        self.shown = []

    def forward(self, process, n, device):
        return super().forward(process, n, device)._replace(weight=1.0 + 2.0 * (torch.arange(n) % 2))

    def update(self, place, loss):
        self.shown.append((place, loss))


def test_timesteps_learn_from_the_losses_before_their_own_weights_once():
    timesteps = Alternating()
    objective = ImagePrediction(Flow(), timesteps)
    x0 = torch.linspace(1, 2, 8).reshape(8, 1, 1, 1)

    def silent(x, t, y):
        return torch.zeros_like(x)

    losses = torch.cat([objective.loss(silent, part, None) for part in x0.chunk(2)])
    torch.testing.assert_close(losses, x0.flatten() ** 2 * torch.tensor([1.0, 3.0]).repeat(4))
    objective.learn(gather=lambda values: torch.cat([values, values]))
    objective.learn()
    [(place, loss)] = timesteps.shown
    assert len(place) == 16
    torch.testing.assert_close(loss, (x0.flatten() ** 2).repeat(2))
    assert not loss.requires_grad


def test_losses_that_are_only_looked_at_are_not_learned_from():
    timesteps = Alternating()
    objective = ImagePrediction(Flow(), timesteps).eval()
    objective.loss(lambda x, t, y: x, torch.zeros(4, 1, 1, 1), None)
    objective.learn()
    assert timesteps.shown == []


def test_what_the_timesteps_learned_is_in_the_objective_s_state():
    objective = ImagePrediction(Flow(), Importance(bins=2, history=1))
    objective.timesteps.update(torch.tensor([0, 1]), torch.tensor([1.0, 3.0]))
    resumed = ImagePrediction(Flow(), Importance(bins=2, history=1))
    resumed.load_state_dict(objective.state_dict())
    chances = resumed.timesteps.probabilities()
    assert torch.equal(chances, objective.timesteps.probabilities())
    assert float(chances[1]) == pytest.approx(0.75, abs=1e-3)


def test_an_objective_without_anything_to_learn_has_an_empty_state():
    for process in (Linear(), EDM()):
        objective = made(VelocityPrediction, process)
        assert objective.state_dict() == {}
        assert list(objective.parameters()) == []


def test_a_weighting_counts_the_hybrid_loss_s_noise_and_leaves_its_bound():
    x0, noise = torch.randn(2, *SHAPE)
    t, out = torch.full((16,), 0.05), torch.randn(16, 6, 4, 4)
    alpha, sigma = (c[:, None, None, None] for c in Linear().coefficients(t))
    x_t = alpha * x0 + sigma * noise
    plain = made(HybridNoisePrediction, Linear())
    cut = HybridNoisePrediction(Linear(), Uniform(), MinSNR())
    bound = plain.bound(out, x0, x_t, t)
    snr = (alpha / sigma).flatten() ** 2
    assert snr.min() > 10  # so that the weight is far from 1
    torch.testing.assert_close(
        cut.error(out, x0, noise, x_t, t) - bound,
        (plain.error(out, x0, noise, x_t, t) - bound) * snr.clamp(max=5) / snr,
        rtol=1e-4,
        atol=1e-4,
    )


def test_learned_variance_on_a_continuous_path_is_refused():
    with pytest.raises(ValueError, match="objective=eps_hybrid learns the variance of discrete steps"):
        made(HybridNoisePrediction, Flow())


def test_posterior_variance_table_is_published_and_finite():
    hybrid = made(HybridNoisePrediction, Linear())
    assert math.exp(hybrid.log_small[1]) == pytest.approx(5.4532e-5, rel=1e-4)
    assert float(hybrid.log_small[0]) == pytest.approx(-9.8167, abs=1e-3)
    assert hybrid.log_small[0] == hybrid.log_small[1]
    assert hybrid.log_small.isfinite().all()


def test_the_bound_trains_the_variance_and_not_the_mean():
    hybrid = made(HybridNoisePrediction, Linear())
    x0, noise = torch.randn(2, *SHAPE)
    t = torch.full((16,), 0.4)
    out = torch.zeros(16, 6, 4, 4, requires_grad=True)
    a, s = Linear().coefficients(t[:1])
    hybrid.error(out, x0, noise, a * x0 + s * noise, t).sum().backward()
    plain = torch.zeros(16, 3, 4, 4, requires_grad=True)
    made(NoisePrediction, Linear()).error(plain, x0, noise, a * x0 + s * noise, t).sum().backward()
    assert torch.equal(out.grad[:, :3], plain.grad)
    assert out.grad[:, 3:].abs().min() > 0


def test_the_bound_is_zero_where_the_network_says_the_posterior():
    hybrid = made(HybridNoisePrediction, Linear())
    x0, noise = torch.randn(2, *SHAPE, dtype=torch.float64)
    t = torch.full((16,), 0.4, dtype=torch.float64)
    a, s = Linear().coefficients(t[:1])
    truth = torch.cat([noise, -torch.ones_like(noise)], dim=1)
    assert hybrid.bound(truth, x0, a * x0 + s * noise, t).abs().max() < 1e-9


def test_8_bit_likelihood_sums_to_one_over_the_256_values():
    values = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    for scale in (-4.0, -2.0, 0.0):
        total = discretized_log_likelihood(values, torch.tensor(0.1), torch.tensor(scale)).exp().sum()
        assert float(total) == pytest.approx(1.0, abs=1e-6)
