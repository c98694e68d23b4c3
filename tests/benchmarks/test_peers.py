"""Both sides of the comparisons compute the same, and train alike."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
import torch

from benchmarks import peers
from benchmarks.apart import Apart
from benchmarks.paired import Setting
from benchmarks.peers import (
    CLASSES,
    TINY,
    Size,
    batch_of,
    check_same,
    operations,
    our_step,
    ours,
    their_step,
    theirs,
)
from benchmarks.rows import data, optimizer, training, utilisation
from benchmarks.rows.memory import kept
from benchmarks.rows.sampling import SCALE, our_walk, their_walk
from dit_exp.guidance.cfg import ClassifierFreeGuidance
from dit_exp.nn.count import count_parameters

CPU = torch.device("cpu")


def test_diffusers_model_with_our_weights_says_the_same_and_with_another_weight_does_not():
    model = ours(TINY).eval()
    peer = theirs(model, TINY).eval()
    check_same(model, peer, TINY, CPU)
    with torch.no_grad():
        model.blocks[1].mlp.outer.bias[0] += 0.1
    with pytest.raises(AssertionError):
        check_same(model, peer, TINY, CPU)


def test_gradients_and_answers_are_compared_and_others_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(training, "begin", lambda device: None)  # which is for a process's whole life
    model, job = ours(TINY).eval(), training.their_jobs(TINY, 2, CPU)
    expected = job(training.GRADIENTS)
    training.check_gradients(model, expected, TINY, 2)
    changed = {
        "transformer_blocks.1.ff.net.2.weight": 1.001 * expected["transformer_blocks.1.ff.net.2.weight"]
    }
    with pytest.raises(AssertionError, match=r"The gradient of transformer_blocks\.1\.ff\.net\.2\.weight"):
        training.check_gradients(model, expected | changed, TINY, 2)
    mine = dict.fromkeys(peers.MODES, torch.ones(4))
    said = dict.fromkeys(peers.MODES, torch.ones(4).numpy())
    training.check_answers(mine, said)
    with pytest.raises(AssertionError, match=r"diffusers' in compiled bf16 is 3\.0e-02"):
        training.check_answers(mine, said | {"compiled bf16": 1.03 * said["compiled bf16"]})


def test_diffusers_has_an_embedding_of_time_and_label_in_each_block():
    model = ours(TINY)
    width = TINY.width
    embedding = 256 * width + width + width * width + width + (CLASSES + 1) * width
    extra = count_parameters(theirs(model, TINY)) - count_parameters(model)
    assert extra == (TINY.depth - 1) * embedding


def test_four_guided_steps_end_where_the_pipelines_do():
    size = TINY
    model = ours(size).eval()
    x = torch.randn(2, *size.shape, generator=torch.Generator().manual_seed(0))
    guidance = ClassifierFreeGuidance(model.null_label, SCALE)
    expected = their_walk(theirs(model, size).eval(), x, "fp32", False)()
    torch.testing.assert_close(our_walk(model, x, guidance, "fp32", False)(), expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(expected, x, atol=0.1)


def test_both_training_steps_lower_the_loss_of_a_batch(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(peers, "RATE", 1e-2)
    batch = batch_of(TINY, 8, CPU)
    model = ours(TINY)
    for make, network in ((our_step, model), (their_step, theirs(model, TINY))):
        step = make(network, "fp32", False, batch, CPU)
        torch.manual_seed(0)
        losses = [step() for _ in range(60)]
        values = [float(v[0]["loss"] if isinstance(v, tuple) else v) for v in losses]
        assert sum(values[-10:]) < 0.9 * sum(values[:10])


def test_a_training_step_of_s_4_has_the_published_count_of_operations():
    with torch.device("meta"):
        model = ours(Size(12, 384, 6, 4))
    assert 3 * operations(model, Size(12, 384, 6, 4), 1) / 1e9 == pytest.approx(8.5, abs=0.1)


def test_kept_activations_are_those_of_a_linear_layer_with_gelu():
    network = torch.nn.Sequential(torch.nn.Linear(16, 64), torch.nn.GELU(), torch.nn.Linear(64, 1))
    x = torch.randn(10, 16)
    # the inputs of GELU and of the second layer, and the output, float32; x is there before
    assert kept(lambda: network(x), "fp32", CPU) == 4 * 10 * (64 + 64 + 1)
    assert kept(lambda: network(torch.cat([x, x])), "fp32", CPU) == 2 * 4 * 10 * (16 + 64 + 64 + 1)
    with torch.no_grad():
        assert kept(lambda: network(x), "fp32", CPU) == 4 * 10


def test_without_a_gpu_its_rows_are_there_and_say_that_they_are_not_measured():
    rows = list(utilisation.rows(Setting(CPU)))
    assert len(rows) == 3
    assert all(row.figure == "not measured" and row.verdict == "" for row in rows)
    [tiny] = utilisation.rows(Setting(CPU, rounds=2, quick=True))
    assert tiny.work == "DiT-tiny, 2 images, bf16, compile=False"
    assert min(tiny.value) > 0


@pytest.mark.system  # two processes start
def test_ours_and_torchs_default_optimizers_take_the_same_steps():
    found = list(optimizer.rows(Setting(CPU, rounds=3, quick=True)))  # which compares the weights at its end
    assert [(row.benchmark, row.reach) for row in found] == [
        ("optimizer", 5.0),
        ("optimizer", 5.0),
        ("optimizer: share of the memory's rate", None),
    ]


@pytest.mark.system  # a process starts
def test_a_job_apart_is_made_and_done_over_there_and_its_failure_is_told():
    with Apart(adding, 3) as job:
        job.ask(4)
        total, process = job.answer()
        assert total == 7
        assert process != os.getpid()
        assert job(5) == (12, process)
        with pytest.raises(AssertionError, match="The process of a job ended"):
            job("six")


def adding(total: int) -> Callable[[int], tuple[int, int]]:
    """Adds up what it is told and says by what process."""

    def job(more: int) -> tuple[int, int]:
        nonlocal total
        total += more
        return total, os.getpid()

    return job


def test_an_epoch_of_ours_and_of_torchvisions_reach_the_same_range():
    [row] = data.rows(Setting(CPU, rounds=2, quick=True))
    assert row.work == "an epoch of 512 images, decoded before"
