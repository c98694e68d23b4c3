"""What an autoencoder is trained for: images near their originals, to pixels, to a network and to a judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from dit_exp.types.training import Objective, Reconstructed


class Perceptual(Protocol):
    """A weighted distance (B,) of images (B, 3, H, W); the gradient flows to the second alone."""

    name: str

    def __call__(self, image: Tensor, other: Tensor) -> Tensor: ...


class Discriminator(Protocol):
    """See discriminator.patch.PatchDiscriminator."""

    def penalty(self, image: Tensor, rest: Tensor, last_layer: Tensor, step: int) -> Tensor: ...
    def learn(self, pieces: Sequence[tuple[Tensor, Tensor]], step: int) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Reading(NamedTuple):
    """A codebook's use since the last reading: how many codes, and perplexity, exp of their entropy.

    restarted  codes that nobody used and that were given a new place
    """

    step: int
    codes: int
    used: int
    perplexity: float
    restarted: int


class Codebook(Protocol):
    """What is to be known of the trained autoencoder."""

    codebook_size: int

    @property
    def last_layer(self) -> Tensor: ...
    def restart(self, vectors: Tensor, dead: Tensor) -> int: ...


class Reconstruction(Objective):
    """|image - reconstruction|^exponent + perceptual + discriminator's share + the latents' penalty.

    autoencoder  the trained one
    exponent     1 or 2: mean absolute or mean squared error
    every        steps between readings of the codebook's use
    report       what is called with each reading, on every rank

    Everything that a resumed run must know, the discriminator and its optimizer too, is in the state_dict.
    Each step's codes of all ranks are counted on each, so all restart the same codes.
    """

    def __init__(
        self,
        autoencoder: Codebook,
        exponent: float,
        perceptual: Perceptual,
        discriminator: Discriminator,
        every: int,
        report: Callable[[Reading], None],
    ) -> None:
        super().__init__()
        self.perceptual, self.discriminator = perceptual, discriminator
        self.exponent, self.every, self.report = exponent, every, report
        self.last_layer, self.restart = (lambda: autoencoder.last_layer), autoencoder.restart
        self.step = 0
        self.usage = torch.zeros(autoencoder.codebook_size, dtype=torch.long)
        self.unlearned: list[tuple[Tensor, Reconstructed]] = []
        self.sums: dict[str, float] = {}

    def loss(self, network: Callable[[Tensor], Reconstructed], x0: Tensor, label: Tensor | None) -> Tensor:
        """Loss of each image (B,) of x0 (B, 3, H, W); labels say nothing here."""
        out = network(x0)
        made = out.image.float()
        pixels = (made - x0).abs().pow(self.exponent).flatten(1).mean(1)
        seen = self.perceptual(x0, made)
        judged = self.discriminator.penalty(made, pixels + seen, self.last_layer(), self.step)
        self.unlearned.append((x0, out._replace(image=made.detach())))
        self._add({"pixel": pixels, "perceptual": seen, "adversarial": judged, "latent": out.penalty})
        return pixels + seen + judged + out.penalty

    def learn(self, gather: Callable[[Tensor], Tensor] = lambda values: values) -> None:
        """The discriminator's step, and the codebook's readings."""
        self.discriminator.learn([(x0, out.image) for x0, out in self.unlearned], self.step)
        self.step += 1
        latest = self.unlearned[-1][1].latent
        codes = [out.codes.flatten() for _, out in self.unlearned if out.codes is not None]
        self.unlearned.clear()
        if codes:
            self.usage += torch.bincount(gather(torch.cat(codes)).cpu(), minlength=len(self.usage))
            if self.step % self.every == 0:
                self._read(latest)

    def _read(self, latent: Tensor) -> None:
        share = self.usage[self.usage > 0].double() / self.usage.sum()
        perplexity = float(torch.exp(-(share * share.log()).sum()))
        vectors = latent.float().movedim(1, -1).flatten(0, 2)
        restarted = self.restart(vectors, (self.usage == 0).to(vectors.device))
        self.report(Reading(self.step, len(self.usage), len(share), perplexity, restarted))
        self.usage.zero_()

    def means(self) -> dict[str, float]:
        """Means of the loss's parts since they were asked for last; for people, and in no checkpoint."""
        sums, self.sums = self.sums, {}
        count = max(1.0, float(sums.pop("count", 0.0)))
        return {name: float(value) / count for name, value in sums.items()}

    def _add(self, parts: dict[str, Tensor]) -> None:
        for name, value in parts.items():
            self.sums[name] = self.sums.get(name, 0.0) + value.detach().mean()  # type: ignore[assignment]
        self.sums["count"] = self.sums.get("count", 0.0) + 1

    def get_extra_state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "usage": self.usage.clone(),
            "discriminator": self.discriminator.state_dict(),
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.step, self.usage = state["step"], state["usage"].clone()
        self.discriminator.load_state_dict(state["discriminator"])
