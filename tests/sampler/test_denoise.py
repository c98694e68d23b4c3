"""What a network is shown of x_t and t."""

from __future__ import annotations

import torch

from dit_exp.process.flow import Flow
from dit_exp.sampler.denoise import on_process_time


class Halving(Flow):
    """The straight path with half of x_t for the network."""

    def input_scale(self, t):
        return torch.full_like(t, 0.5)


def test_the_network_sees_scaled_input_and_the_process_s_time():
    def model(x, t, label):
        return x + t[:, None, None, None]

    x, t = torch.randn(2, 1, 2, 2), torch.tensor([0.25, 1.0])
    out = on_process_time(model, Halving())(x, t, None)
    torch.testing.assert_close(out, x / 2 + 1000 * t[:, None, None, None])
