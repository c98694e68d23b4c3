from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch

from dit_exp.data.feed import ArrayFeed
from dit_exp.data.resident import check_room
from dit_exp.errors import UserError
from dit_exp.types.data import Batch

COUNT = 23


def feed(batch_size: int, rank: int = 0, world: int = 1, seed: int = 3, flip: bool = False) -> ArrayFeed:
    """Image i has the value i in every pixel of its left column and 100 + i elsewhere, and the label i."""
    images = np.empty((COUNT, 3, 2, 4), np.uint8)
    images[:] = 100 + np.arange(COUNT)[:, None, None, None]
    images[..., 0] = np.arange(COUNT)[:, None, None]
    return ArrayFeed(images, np.arange(COUNT), batch_size, seed, rank, world, flip)


def labels(batch: Batch) -> list[int]:
    assert batch.label is not None
    return batch.label.tolist()


def first(source: ArrayFeed, count: int, start: int = 0) -> list[Batch]:
    return list(islice(source.batches(start), count))


@pytest.mark.parametrize("batch_size", [1, 5, 8, 23])
def test_every_epoch_sees_every_image_once_also_where_batches_straddle_epochs(batch_size: int):
    stream = [label for batch in first(feed(batch_size), 4 * COUNT) for label in labels(batch)]
    epochs = [stream[i * COUNT : (i + 1) * COUNT] for i in range(4)]
    assert all(sorted(epoch) == list(range(COUNT)) for epoch in epochs)
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("start", [1, 2, 3, 17, 100])
def test_batch_k_is_the_same_started_at_0_and_at_k(start: int):
    whole = first(feed(8, flip=True), start + 3)[start:]
    for straight, resumed in zip(whole, first(feed(8, flip=True), 3, start), strict=True):
        assert torch.equal(straight.image, resumed.image)
        assert labels(straight) == labels(resumed)


def test_ranks_together_are_the_one_process_batch_in_order():
    alone = first(feed(12), 9)
    ranks = [first(feed(4, rank, 3), 9) for rank in range(3)]
    for k, batch in enumerate(alone):
        assert labels(batch) == [label for rank in ranks for label in labels(rank[k])]
        assert torch.equal(batch.image, torch.cat([rank[k].image for rank in ranks]))


def test_batches_are_uint8_images_and_int64_labels_that_belong_together():
    for batch in first(feed(5), 6):
        assert (batch.image.dtype, batch.image.shape) == (torch.uint8, (5, 3, 2, 4))
        assert batch.label is not None
        assert batch.label.dtype == torch.int64
        assert torch.equal(batch.image[:, 0, 0, 0].long(), batch.label)


def test_a_flip_mirrors_whole_images_about_half_of_them_and_changes_no_source_pixel():
    source = feed(20, flip=True)
    before = source.images.copy()
    mirrored = 0
    plain = first(feed(20), 100)
    for straight, batch in zip(plain, first(source, 100), strict=True):
        same = (batch.image == straight.image).flatten(1).all(1)
        flipped = (batch.image == straight.image.flip(-1)).flatten(1).all(1)
        assert torch.equal(same, ~flipped)
        mirrored += int(flipped.sum())
    assert 900 < mirrored < 1100  # 2,000 fair draws: standard deviation 22
    assert np.array_equal(source.images, before)


def test_flips_differ_between_steps_and_ranks():
    def flips(rank: int, step: int) -> list[bool]:
        (batch,) = first(feed(11, rank, 2, flip=True), 1, step)
        return (batch.image[:, 0, 0, 0] >= 100).tolist()

    assert len({tuple(flips(rank, step)) for rank in range(2) for step in range(4)}) == 8


def test_another_seed_is_another_order():
    assert labels(first(feed(23, seed=0), 1)[0]) != labels(first(feed(23, seed=1), 1)[0])


def test_no_labels_give_none():
    images = np.zeros((4, 3, 2, 2), np.uint8)
    assert next(ArrayFeed(images, None, 2, 0, 0, 1, False).batches()).label is None


def test_fewer_images_than_a_batch_are_refused():
    with pytest.raises(UserError) as caught:
        feed(12, world=2)
    assert str(caught.value) == (
        "The data has 23 training images, fewer than one batch of 24. "
        "Lower trainer.batch_size or pass more data."
    )


@pytest.mark.parametrize("flip", [False, True])
def test_batches_from_a_device_that_holds_all_images_are_the_same(flip: bool):
    """Of two ranks, from the middle of a run."""
    for rank in range(2):
        source = feed(5, rank, 2, flip=flip)
        held = source.on(torch.device("cpu"))
        for plain, resident in zip(first(source, 9, 3), islice(held.batches(3), 9), strict=True):
            assert torch.equal(plain.image, resident.image)
            assert labels(plain) == labels(resident)


def test_without_labels_they_have_none_there_either():
    source = ArrayFeed(np.zeros((4, 3, 2, 2), np.uint8), None, 2, 0, 0, 1, False)
    assert next(source.on(torch.device("cpu")).batches()).label is None


def test_images_that_a_gpu_has_no_room_for_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**30, 2**31))
    check_room(2**30, torch.device("cuda"))
    with pytest.raises(UserError, match=r"take 3.0 GiB, and cuda:1 has 1.0 GiB free.*resident_data=false"):
        check_room(3 * 2**30, torch.device("cuda:1"))
