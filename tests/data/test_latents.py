"""data=latents: training, validation, references and refusals on a cache."""

from __future__ import annotations

import json
import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from composing import composed
from encoding import encoding, using

from dit_exp.build import build, build_stage
from dit_exp.data.latents import Latents
from dit_exp.errors import UserError
from dit_exp.task.cache import cache
from dit_exp.task.likelihood import likelihood
from dit_exp.task.validate import validation_loss
from dit_exp.trainer.batch import encoded

TINY = [
    "data=latents", "tracker=none", "metrics=none", "model.width=32", "model.depth=1", "model.heads=4",
    "model.patch_size=2", "sampler.steps=2", "sampler.clip=false",
]  # fmt: skip


def cached(folder: Path, name: str, *overrides: str) -> Path:
    cache(encoding(folder / "run", *using(name), *overrides), str(folder / "cache"), shard=400)
    return folder / "cache"


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cached(tmp_path_factory.mktemp("halves"), "Halves", "data.flip=true")


@pytest.fixture(scope="module")
def blurred(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cached(tmp_path_factory.mktemp("blurred"), "Blurred")


def parts(root: Path, run_dir: Path, *overrides: str):
    run_dir.mkdir(exist_ok=True)
    given = [*TINY, f"data.root={root}", *overrides]
    cfg, choices = composed(given)
    return build(cfg, choices, given, run_dir)


def test_the_header_brings_the_autoencoder_and_the_sizes(halves: Path, tmp_path: Path):
    run = parts(halves, tmp_path)
    assert run.autoencoder.identity() == "halves 2.0"
    assert run.config["autoencoder"]["_target_"] == "encoding.Halves"
    assert (run.data.image_shape, run.latent_shape) == ((3, 8, 8), (3, 4, 4))
    assert (run.data.num_classes, run.data.held_out, len(run.data.class_names)) == (10, "test", 10)
    assert run.model.grid == (2, 2)  # of 4x4 latents in patches of 2, not of 8x8 images


def test_batches_are_the_latents_of_the_batches_of_images(halves: Path, tmp_path: Path):
    images = encoding(tmp_path, *using("Halves"), "data.flip=true")
    data, autoencoder = Latents(str(halves)), images.autoencoder
    for start, rank, world in ((0, 0, 1), (200, 1, 3)):
        ours = islice(data.train(16, 5, rank, world).batches(start), 3)
        theirs = islice(images.data.train(16, 5, rank, world).batches(start), 3)
        for a, b in zip(ours, theirs, strict=True):
            assert a.image.dtype == torch.float32
            assert torch.equal(a.label, b.label)
            # the same images, mirrored in the same places
            assert torch.equal(encoded(autoencoder, a.image).x0, encoded(autoencoder, b.image).x0)


def test_without_stored_flips_nothing_is_mirrored(blurred: Path):
    data = Latents(str(blurred))
    batch = next(data.train(300, 0).batches())
    stored = torch.cat(list(data.examples("train")))
    known = {row.numpy().tobytes() for row in stored}
    assert all(row.numpy().tobytes() in known for row in batch.image)
    assert not data.flip


def test_latents_that_are_drawn_are_drawn_anew_from_the_steps_seed(blurred: Path, tmp_path: Path):
    run = parts(blurred, tmp_path)
    batch = next(run.data.train(400, 0).batches())

    def at(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return encoded(run.autoencoder, batch.image).x0

    assert torch.equal(at(1), at(1))
    difference = (at(1) - at(2)) / (2 * 0.25)  # by gain and deviation
    assert float(difference.std()) == pytest.approx(2**0.5, rel=0.05)
    assert at(1).shape == (400, 3, 4, 4)


def test_validation_on_the_cache_is_that_on_the_images(halves: Path, blurred: Path, tmp_path: Path):
    for name, root in (("Halves", halves), ("Blurred", blurred)):
        ours = parts(root, tmp_path / "ours")
        pixels = [*TINY[1:], *using(name), "data=digits", "data.image_size=8"]
        (tmp_path / "theirs").mkdir(exist_ok=True)
        theirs = build(*composed(pixels), pixels, tmp_path / "theirs")
        torch.nn.init.normal_(theirs.model.head.weight, std=0.1)
        ours.model.load_state_dict(theirs.model.state_dict())
        losses = [validation_loss(run, run.model, 150) for run in (ours, theirs)]
        assert losses[0] == losses[1]


def test_references_are_the_original_images_under_their_own_name(halves: Path, tmp_path: Path):
    run = parts(halves, tmp_path)
    original = encoding(tmp_path / "o").data
    assert run.data.identity("train") == original.identity("train")
    assert torch.equal(torch.cat(list(run.data.images("test", 9))), next(original.images("test"))[:9])
    assert np.array_equal(run.data.labels("test"), original.labels("test"))


def edited(source: Path, folder: Path, change) -> Path:
    shutil.copytree(source, folder)
    told = json.loads((folder / "header.json").read_text())
    change(told)
    (folder / "header.json").write_text(json.dumps(told))
    return folder


def test_images_that_have_changed_since_are_no_reference(halves: Path, tmp_path: Path):
    def change(told):
        told["splits"]["train"]["identity"] = "0" * 16

    run = parts(edited(halves, tmp_path / "copy", change), tmp_path / "run")
    with pytest.raises(UserError, match=r"was encoded from other images .* Pass data\.images=DIR"):
        next(run.data.images("train"))


def test_another_autoencoder_is_refused(halves: Path, tmp_path: Path):
    with pytest.raises(UserError) as refused:
        parts(halves, tmp_path, *using("Halves", "gain=3"))
    assert f"data.root={halves} was encoded by another autoencoder: " in str(refused.value)
    assert "halves 2.0 there, halves 3.0 here. Leave autoencoder= out" in str(refused.value)


def test_an_autoencoder_that_is_gone_is_named_with_its_cache(halves: Path, tmp_path: Path):
    def change(told):
        told["autoencoder"]["config"]["_target_"] = "encoding.Gone"

    copy = edited(halves, tmp_path / "copy", change)
    with pytest.raises(
        UserError, match=f"The autoencoder that data.root={copy} was encoded by cannot be built"
    ):
        parts(copy, tmp_path / "run")


def test_the_cache_s_autoencoder_stands_before_that_of_an_experiment(halves: Path, tmp_path: Path):
    run = parts(halves, tmp_path, "experiment=dit_s_8_256")
    assert (run.choices["autoencoder"], run.autoencoder.identity()) == ("identity", "halves 2.0")
    assert run.model.grid == (2, 2)


def test_a_patch_that_does_not_divide_the_latent_is_refused(halves: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"The input is 4x4, and model\.patch_size=8 does not divide it"):
        parts(halves, tmp_path, "model.patch_size=8")


@pytest.mark.parametrize("choice", ["augment=edm", "alignment=repa"])
def test_what_needs_images_in_training_is_refused(halves: Path, tmp_path: Path, choice: str):
    with pytest.raises(UserError) as refused:
        parts(halves, tmp_path, choice)
    assert str(refused.value) == (
        f"{choice} needs images, and data.root={halves} holds latents alone. Leave it out, or pass the "
        "images that the latents are of: data=digits with the same autoencoder."
    )


def test_a_first_stage_is_not_trained_on_latents(halves: Path, tmp_path: Path):
    given = ["task=autoencoder", "autoencoder=vq", "data=latents", f"data.root={halves}", "tracker=none"]
    cfg, choices = composed(given)
    with pytest.raises(UserError, match=r"task=autoencoder needs images, and data.root=.* holds latents"):
        build_stage(cfg, choices, given, tmp_path)


def test_latents_have_no_likelihood(halves: Path, tmp_path: Path):
    run = parts(halves, tmp_path, "task=likelihood")
    run.source = {"step": 1}
    with pytest.raises(UserError, match=r"task=likelihood is for pixels, and autoencoder=\w+ makes latents"):
        likelihood(run, lambda shape, generator: torch.ones(shape))


def test_a_folder_that_is_no_cache(tmp_path: Path):
    with pytest.raises(
        UserError, match=r"is no cache of latents: .*header\.json cannot be read .*task=cache"
    ):
        Latents(str(tmp_path))


def test_a_cache_that_is_not_finished_or_cut_short(halves: Path, tmp_path: Path):
    copy = tmp_path / "copy"
    shutil.copytree(halves, copy)
    last = copy / "train-00003.npy"
    last.write_bytes(last.read_bytes()[:-8])
    with pytest.raises(
        UserError, match=r"train-00003\.npy is cut short \(.*\)\. Remove it and run its task=cache"
    ):
        Latents(str(copy)).check()
    last.unlink()
    with pytest.raises(
        UserError, match=r"is not finished: it has 3 of 4 shards of train\. Run its task=cache"
    ):
        Latents(str(copy)).check()


def test_a_shard_of_another_shape_or_precision_is_not_trained_on(halves: Path, tmp_path: Path):
    copy = tmp_path / "copy"
    shutil.copytree(halves, copy)
    path = copy / "train-00001.npy"
    shard = np.load(path)
    np.save(path, shard.astype(np.float16))
    with pytest.raises(UserError, match=r"train-00001\.npy is not of this cache: .* of float16, and the"):
        Latents(str(copy)).check()
    np.save(path, shard[:, :1])
    with pytest.raises(
        UserError, match=r"holds \(400, 1, 3, 4, 4\) of float32, and the header says \(400, 2"
    ):
        Latents(str(copy)).train(16, 0)


def test_labels_that_are_gone_are_named(halves: Path, tmp_path: Path):
    shutil.copytree(halves, tmp_path / "copy")
    (tmp_path / "copy" / "train-labels.npy").unlink()
    with pytest.raises(
        UserError, match=r"train-labels\.npy cannot be read \(.*\)\. Run the cache's task=cache"
    ):
        Latents(str(tmp_path / "copy")).train(16, 0)


@contextmanager
def few_files(more: int) -> Iterator[None]:
    """This process may have so many files more open at most, as under `ulimit -n`."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    os.close(free := os.open(os.devnull, os.O_RDONLY))  # the lowest number that is free
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_cache_of_more_shards_than_files_may_be_open_gives_the_same_batches(halves: Path, tmp_path: Path):
    of = encoding(tmp_path / "run", *using("Halves"), "data.flip=true")
    cache(of, str(tmp_path / "cache"), shard=10)
    with few_files(20):
        data = Latents(str(tmp_path / "cache"))
        assert data.header.shards("train") == 150
        ours = list(islice(data.train(300, 5).batches(), 5))
        stored = torch.cat(list(data.examples("train", 25)))
        resident = list(islice(data.train(300, 5).on(torch.device("cpu")).batches(), 5))
    whole = Latents(str(halves))
    for a, b in zip([*ours, *resident], 2 * list(islice(whole.train(300, 5).batches(), 5)), strict=True):
        assert torch.equal(a.image, b.image)
        assert torch.equal(a.label, b.label)
    assert torch.equal(stored, next(whole.examples("train", 25)))


def test_a_shard_that_cannot_be_opened_is_named(halves: Path):
    data = Latents(str(halves))
    text = r"train-00000\.npy cannot be read \(Too many open files"
    with few_files(0), pytest.raises(UserError, match=text):
        data.shards("train")


def test_a_split_that_was_not_encoded(tmp_path: Path):
    cache(encoding(tmp_path / "run", *using("Halves")), str(tmp_path / "cache"), held_out=False)
    with pytest.raises(UserError, match=r"has no split 'test', only train\. .*task\.held_out=true"):
        Latents(str(tmp_path / "cache")).size("test")
