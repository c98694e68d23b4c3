"""A discriminator of patches, for reconstructions that are sharp where pixels alone leave them blurred."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dit_exp import parallel


class PatchDiscriminator:
    """PatchGAN with least squares: patches of images tend to 1, of reconstructions to 0.

    It is no module, since its weights have an optimizer of their own, which it steps itself; `state_dict`
    holds both. It is silent before step `start`.

    weight    of the autoencoder's share, before it is balanced
    adaptive  balance: the share's gradient at the autoencoder's last layer is made as long as that of the
              rest of the loss (Esser et al. 2020, arXiv:2012.09841, equation 7)
    width, layers  of the network: `layers` halvings, whose channels double up to 8 times `width`
    lr, betas      of Adam

    Sources: Isola et al. 2016, arXiv:1611.07004; least squares: Mao et al. 2016, arXiv:1611.04076.
    """

    def __init__(
        self,
        weight: float = 0.5,
        start: int = 7500,
        adaptive: bool = True,
        width: int = 64,
        layers: int = 3,
        lr: float = 1e-5,
        betas: Sequence[float] = (0.5, 0.999),
    ) -> None:
        self.weight, self.start, self.adaptive = weight, start, adaptive
        self.network = patch_network(width, layers)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=lr, betas=(betas[0], betas[1]))

    def to(self, device: torch.device) -> PatchDiscriminator:
        self.network.to(device)
        return self

    def penalty(self, image: Tensor, rest: Tensor, last_layer: Tensor, step: int) -> Tensor:
        """What reconstructions (B, 3, H, W) pay for being known as such, (B,).

        rest  the other losses (B,) of the same images
        """
        if step < self.start:
            return torch.zeros_like(rest)
        self.network.requires_grad_(False)  # its gradients are not the autoencoder's
        share = (self.network(image).float() - 1).square().flatten(1).mean(1)
        balance = balanced(rest.mean(), share.mean(), last_layer) if self.adaptive else 1.0
        return self.weight * balance * share

    def learn(self, pieces: Sequence[tuple[Tensor, Tensor]], step: int) -> None:
        """One step on (images, reconstructions) of every piece, (B, 3, H, W) each; gradients meet here."""
        if step < self.start:
            return
        self.network.requires_grad_(True)
        for image, reconstruction in pieces:
            real, made = self.network(image), self.network(reconstruction)
            loss = 0.5 * ((real - 1).square().mean() + made.square().mean())
            (loss / len(pieces)).backward()
        for parameter in self.network.parameters():
            if parameter.grad is not None:
                parameter.grad.copy_(parallel.mean(parameter.grad))
        self.optimizer.step()
        self.optimizer.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])


def balanced(rest: Tensor, share: Tensor, last_layer: Tensor) -> Tensor:
    """|gradient of the rest| / |gradient of the share| at the last layer, without a gradient of its own."""
    by_rest, by_share = (
        torch.autograd.grad(loss, last_layer, retain_graph=True)[0].norm() for loss in (rest, share)
    )
    return (by_rest / (by_share + 1e-4)).clamp(0, 1e4)


def patch_network(width: int, layers: int) -> nn.Sequential:
    """Images (B, 3, H, W) -> a number for each patch (B, 1, h, w). Batch norms keep no running statistics:
    they always see the batch.
    """
    widths = [min(2**i, 8) * width for i in range(layers + 1)]
    network: list[nn.Module] = [nn.Conv2d(3, widths[0], 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
    for i in range(layers):
        network += [
            nn.Conv2d(widths[i], widths[i + 1], 4, stride=2 if i + 1 < layers else 1, padding=1, bias=False),
            nn.BatchNorm2d(widths[i + 1], track_running_stats=False),
            nn.LeakyReLU(0.2),
        ]
    model = nn.Sequential(*network, nn.Conv2d(widths[-1], 1, 4, padding=1))
    for module in model:
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
    return model
