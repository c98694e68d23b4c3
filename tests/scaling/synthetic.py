"""Runs whose losses follow a known law of size and images, L = E + A N^-alpha + B D^-beta.

Then the best size at C FLOP is known in closed form, and so are the exponents of N*(C) and of L(C)
(Hoffmann et al. 2022, arXiv:2203.15556, equation 4).
"""

from __future__ import annotations

import numpy as np

from dit_exp.scaling.points import Run, training_flop

E, A, ALPHA, B, BETA = 0.05, 8.0, 0.35, 40.0, 0.4
TOKENS = 16
PER_WIDTH = 100
"""Parameters are PER_WIDTH width squared, and each costs a multiply-add a token."""

SIZE_EXPONENT = BETA / (ALPHA + BETA)
LOSS_EXPONENT = ALPHA * BETA / (ALPHA + BETA)


def gmac(parameters: float) -> float:
    return parameters * TOKENS / 1e9


def loss(parameters: float, images: float) -> float:
    return E + A * parameters**-ALPHA + B * images**-BETA


def best_size(compute: float) -> float:
    pairs = compute / training_flop(gmac(1), 1)  # N D
    return (ALPHA * A / (BETA * B) * pairs**BETA) ** (1 / (ALPHA + BETA))


def run(
    cell: int, width: int, images: float, noise: float = 0.0, batch_size: int = 64, seed: int = 0, **facts
) -> Run:
    parameters = PER_WIDTH * width**2
    steps = round(images / batch_size)
    images = steps * batch_size
    setting = f"model.width={width} trainer.max_steps={steps}"
    facts = {
        "model": {"width": width, "depth": 4, "heads": 4},
        "overrides": (
            "data=digits", f"model.width={width}", f"trainer.max_steps={steps}", f"seed={seed}", "run_dir=/x",
            "metrics=none", "+sweep=scaling", "trainer.batch_size=64", "tracker.uri=http://here:1",
        ),
        "images_per_second": 1e12 / training_flop(gmac(parameters), 1),
    } | facts  # fmt: skip
    return Run(
        cell,
        gmac(parameters),
        images,
        loss(parameters, images) * float(np.exp(noise)),
        parameters,
        setting,
        batch_size=batch_size,
        **facts,
    )


def grid(budgets, factors=(0.4, 0.65, 1.0, 1.6, 2.5), noise: float = 0.0, seed: int = 0) -> list[Run]:
    """Sizes around the best one at each budget, as an iso-compute sweep has them."""
    generator = np.random.default_rng(seed)
    runs = []
    for compute in budgets:
        for factor in factors:
            width = 4 * round(np.sqrt(best_size(compute) * factor / PER_WIDTH) / 4)
            images = compute / training_flop(gmac(PER_WIDTH * width**2), 1)
            runs.append(run(len(runs), width, images, noise * generator.standard_normal()))
    return runs
