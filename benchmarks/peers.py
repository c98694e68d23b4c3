"""DiT as this project and as diffusers have it, with the same weights, and a step of training of each."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dit_exp.attn.mha import MultiHeadAttention
from dit_exp.augment.none import NoAugmentation
from dit_exp.autoencoder.identity import Identity
from dit_exp.cond.adaln import AdaLNZero
from dit_exp.device import compiled
from dit_exp.ema import averaged
from dit_exp.model.dit import DiT
from dit_exp.nn.count import count_gmac
from dit_exp.objective.eps import NoisePrediction
from dit_exp.optimizer.adamw import adamw
from dit_exp.process.linear import Linear
from dit_exp.sampler.denoise import on_process_time
from dit_exp.timesteps.uniform import Uniform
from dit_exp.trainer.loop import Trainer, autocast
from dit_exp.trainer.state import TrainState
from dit_exp.types.data import Batch

MODES = {
    "eager fp32": ("fp32", False),
    "compiled fp32": ("fp32", True),
    "eager bf16": ("bf16", False),
    "compiled bf16": ("bf16", True),
}
"""Precision, and whether compiled, of the four ways in which a network is run."""

CLASSES, EMA_DECAY, CLIP, RATE = 10, 0.9999, 1.0, 1e-4


class Size(NamedTuple):
    """A transformer and the images it is shown, shape (C, side, side)."""

    depth: int
    width: int
    heads: int
    patch: int
    channels: int = 3
    side: int = 32

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.side, self.side


S4, TINY = Size(12, 384, 6, 4), Size(2, 48, 2, 4, side=16)


def ours(size: Size, remat: bool = False) -> DiT:
    """Our model with every weight drawn, so that nothing is zero."""
    torch.manual_seed(0)
    depth, width, heads, patch, *_ = size
    attn, cond = MultiHeadAttention, AdaLNZero
    model = DiT(size.shape, size.channels, CLASSES, attn, cond, depth, width, heads, patch, remat=remat)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.02)
    return model


def theirs(model: DiT, size: Size) -> nn.Module:
    """diffusers' model with the weights of ours.

    Its frequencies of time are set to those of the published model: diffusers divides by 127, not by 128.
    """
    from diffusers import DiTTransformer2DModel

    peer = DiTTransformer2DModel(
        num_attention_heads=size.heads,
        attention_head_dim=size.width // size.heads,
        in_channels=size.channels,
        out_channels=size.channels,
        num_layers=size.depth,
        sample_size=size.side,
        patch_size=size.patch,
        num_embeds_ada_norm=CLASSES,
        norm_eps=1e-6,
    )
    missing, unexpected = peer.load_state_dict(their_names(model.state_dict(), size), strict=False)
    if set(missing) - {"pos_embed.pos_embed"} or unexpected:
        raise AssertionError(f"Weights without a place: {missing}, {unexpected}.")
    for block in peer.transformer_blocks:
        block.norm1.emb.time_proj.downscale_freq_shift = 0
    return peer


def their_names(weights: dict[str, Tensor], size: Size) -> dict[str, Tensor]:
    """Our weights under diffusers' names: the embeddings of time and label are in every block there."""
    names = {"patch": ["pos_embed.proj"], "cond.head": ["proj_out_1"], "head": ["proj_out_2"]}
    blocks = [f"transformer_blocks.{i}" for i in range(size.depth)]
    embedders = [f"{block}.norm1.emb" for block in blocks]
    names["time.inner"] = [f"{e}.timestep_embedder.linear_1" for e in embedders]
    names["time.outer"] = [f"{e}.timestep_embedder.linear_2" for e in embedders]
    names["label.table"] = [f"{e}.class_embedder.embedding_table" for e in embedders]
    for i, block in enumerate(blocks):
        names |= {
            f"blocks.{i}.attn.qkv": [f"{block}.attn1.to_{part}" for part in "qkv"],
            f"blocks.{i}.attn.out": [f"{block}.attn1.to_out.0"],
            f"blocks.{i}.mlp.inner": [f"{block}.ff.net.0.proj"],
            f"blocks.{i}.mlp.outer": [f"{block}.ff.net.2"],
            f"cond.blocks.{i}": [f"{block}.norm1.linear"],
        }
    renamed = {}
    for name, value in weights.items():
        stem, _, kind = name.rpartition(".")
        if stem == "patch" and kind == "weight":
            value = value.unflatten(1, (size.channels, size.patch, size.patch))
        parts = value.chunk(3) if stem.endswith("attn.qkv") else [value] * len(names.get(stem, []))
        renamed |= {f"{n}.{kind}": part for n, part in zip(names.get(stem, []), parts, strict=True)}
    return renamed


def check_same(model: nn.Module, peer: nn.Module, size: Size, device: torch.device) -> None:
    """Raises AssertionError unless both say the same of random images, to 1e-5."""
    g = torch.Generator().manual_seed(2)
    x = torch.randn(3, *size.shape, generator=g).to(device)
    t, label = (torch.tensor(v, device=device) for v in ([0, 500, 999], [0, 7, CLASSES]))
    with torch.no_grad():
        expected = peer.eval()(x, timestep=t, class_labels=label).sample
        torch.testing.assert_close(model.eval()(x, t, label), expected, rtol=1e-5, atol=1e-5)


def operations(model: nn.Module, size: Size, images: int) -> float:
    """Floating-point operations of a forward pass; a training step has three times as many."""
    return 2e9 * count_gmac(model, size.shape, CLASSES) * images


def batch_of(size: Size, images: int, device: torch.device) -> Batch:
    g = torch.Generator().manual_seed(3)
    image = torch.randint(0, 256, (images, *size.shape), generator=g, dtype=torch.uint8)
    return Batch(image.to(device), torch.randint(0, CLASSES, (images,), generator=g).to(device))


def our_step(
    model: DiT, precision: str, compile: bool | str, batch: Batch, device: torch.device
) -> Callable[[], object]:
    """The trainer's own step, on a copy of the model."""
    model = copy.deepcopy(model).to(device).train()
    process = Linear().to(device)
    objective = NoisePrediction(process, Uniform()).to(device)
    trainer = Trainer(batch_size=len(batch.image), precision=precision, gradient_clip=CLIP)  # type: ignore[arg-type]
    optimizer = adamw(model.named_parameters(), lr=RATE)  # type: ignore[arg-type]
    state = TrainState(model, averaged(model, EMA_DECAY), objective, optimizer, lambda module: module)
    forward = on_process_time(compiled(model, compile), process)
    whole, augment = Identity(), NoAugmentation()
    return lambda: trainer.train_step(
        state, forward, objective, whole, batch, device, lambda _: nullcontext(), augment
    )


def their_step(
    peer: nn.Module, precision: str, compile: bool | str, batch: Batch, device: torch.device
) -> Callable[[], object]:
    """As diffusers' examples train: scheduler, mean squared error, clip, AdamW by default, EMA by a loop."""
    from diffusers import DDPMScheduler

    peer = copy.deepcopy(peer).to(device).train()
    average = copy.deepcopy(peer).requires_grad_(False)
    optimizer = torch.optim.AdamW(peer.parameters(), lr=RATE, weight_decay=0.0)
    scheduler, network = DDPMScheduler(1000, clip_sample=False), compiled(peer, compile)

    def step() -> Tensor:
        assert batch.label is not None
        x = batch.image.to(torch.float32) / 127.5 - 1
        noise = torch.randn_like(x)
        t = torch.randint(0, 1000, (len(x),), device=device)
        noisy: Any = scheduler.add_noise(x, noise, t)  # type: ignore[arg-type]
        with autocast(device, precision):
            said = network(noisy, timestep=t, class_labels=batch.label).sample
            loss = nn.functional.mse_loss(said.float(), noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(peer.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            for held, new in zip(average.parameters(), peer.parameters(), strict=True):
                held.mul_(EMA_DECAY).add_(new, alpha=1 - EMA_DECAY)
        return loss.detach()

    return step
