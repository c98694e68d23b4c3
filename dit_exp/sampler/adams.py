"""Adams-Bashforth: the probability-flow ODE with the velocities of the last steps."""

from __future__ import annotations

from torch import Tensor

from dit_exp.sampler.path import Path
from dit_exp.sampler.walk import Multistep, Stop, combined, weights
from dit_exp.types.diffusion import Denoised, DrawNoise


class Adams(Multistep):
    """y_s = y_t + integral of the polynomial through the last `order` velocities, in path.py's coordinates.

    The integral is taken over the steps as they are, even or not. The first steps know fewer velocities and
    are of lower order. Deterministic; order k errs in proportion to step^k.
    Source: Bashforth & Adams 1883; for diffusion with order 4, Liu et al. 2022, arXiv:2202.09778.
    """

    def __init__(self, steps: int = 25, order: int = 3, clip: bool = False) -> None:
        super().__init__(steps, clip)
        if not 1 <= order <= 4:
            raise ValueError(f"sampler.order={order} must be 1 to 4.")
        self.memory = order

    def advance(
        self, x: Tensor, history: list[tuple[Stop, Denoised]], following: Stop, draw: DrawNoise
    ) -> Tensor:
        now, said = history[0]
        path = Path(now, following)
        if len(history) == 1:
            return path.move(x, path.velocity(said))
        nodes = [(path.tau(stop) - path.tau(now)) / path.length for stop, _ in history]
        shares = weights(nodes, [1 / (k + 1) for k in range(len(nodes))])
        return path.move(x, combined(shares, [path.velocity(old) for _, old in history]))
