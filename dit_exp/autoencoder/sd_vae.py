"""Stable Diffusion's autoencoder and its kin, as diffusers publishes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dit_exp.autoencoder.latents import Latents
from dit_exp.errors import UserError

CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"


class SDVae(Latents):
    """A pretrained diffusers AutoencoderKL; its own scale stands for mean and std.

    source  a hub name, or a folder with config.json and diffusion_pytorch_model.safetensors

    Raises UserError for a folder that is not whole and for a hub that cannot be reached.
    """

    stochastic = True

    def __init__(self, source: str = "stabilityai/sd-vae-ft-ema") -> None:
        network = pretrained(source)
        config = network.config
        scale, shift = config.scaling_factor, config.shift_factor or 0.0
        settings = {"scale": scale, "shift": shift}
        super().__init__(settings, config.latent_channels, len(config.block_out_channels) - 1)
        self.network = network.eval()
        self.mean.fill_(shift)
        self.std.fill_(1 / scale)

    def statistics(self, image: Tensor) -> Tensor:
        posterior = self.network.encode(image).latent_dist
        return torch.cat([posterior.mean, posterior.std], dim=1)

    def image_of(self, raw: Tensor) -> Tensor:
        return self.network.decode(raw).sample


def pretrained(source: str) -> Any:
    """The network with all its weights. Raises UserError where one is missing."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    folder = Path(source).expanduser()
    local = folder.is_dir()
    if local and (missing := [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]):
        raise UserError(
            f"autoencoder.source={source} is not a whole autoencoder: {' and '.join(missing)} is missing. "
            f"Pass a folder that diffusers has saved, with {CONFIG} and {WEIGHTS} (in a whole pipeline, its "
            "folder vae)."
        )
    try:
        loaded: Any = AutoencoderKL.from_pretrained(
            str(folder) if local else source,
            use_safetensors=True,
            low_cpu_mem_usage=False,
            local_files_only=local,
            output_loading_info=True,
        )
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        where = "is damaged or of another kind" if local else "is no folder, and could not be fetched"
        raise UserError(
            f"autoencoder.source={source} {where} ({reason}). Pass the folder of an AutoencoderKL that "
            "diffusers has saved, or a hub name where a hub can be reached."
        ) from error
    network, found = loaded
    if incomplete := [*found["missing_keys"], *found["unexpected_keys"]]:
        raise UserError(
            f"autoencoder.source={source} is not a whole autoencoder: {len(incomplete)} weights and the "
            f"network differ, {incomplete[0]} first. Fetch {WEIGHTS} again."
        )
    return network
