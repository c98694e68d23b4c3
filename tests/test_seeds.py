"""Streams by address: equal for equal addresses, different for all others."""

from __future__ import annotations

import itertools

import torch

from dit_exp.seeds import ImageNoise, mix

CPU = torch.device("cpu")


def test_no_two_addresses_share_a_stream():
    addresses = [(p, s, i) for p in ("step", "image") for s, i in itertools.product(range(40), repeat=2)]
    assert len({mix(*a) for a in addresses}) == len(addresses)
    assert mix("image", 1) != mix("image", 1, 0)  # numpy alone pads with zeros


def test_an_image_has_the_same_noise_in_any_company():
    together = ImageNoise(7, range(6), (3, 4, 4), CPU)
    first, second = together(), together()
    alone = ImageNoise(7, [4], (3, 4, 4), CPU)
    assert torch.equal(alone()[0], first[4])
    assert torch.equal(alone()[0], second[4])
    assert not torch.equal(first[4], second[4])
    assert not torch.equal(first[4], first[5])


def test_another_seed_is_other_noise():
    assert not torch.equal(ImageNoise(0, [1], (8,), CPU)(), ImageNoise(1, [0], (8,), CPU)())
