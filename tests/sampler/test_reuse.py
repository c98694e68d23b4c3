"""When the first blocks of a network are run along a trajectory, and when what they gave is kept."""

from __future__ import annotations

import gc
import itertools
import weakref

import pytest
import torch
from networks import NETWORKS, STACKS, images, network, randomized
from torch import Tensor, nn

from dit_exp.sampler.reuse.forecast import Forecast
from dit_exp.sampler.reuse.network import Kept, Run, Watched, ahead, following, likeness
from dit_exp.sampler.reuse.none import NoReuse
from dit_exp.sampler.reuse.plan import Plan, best
from dit_exp.sampler.reuse.planned import Planned
from dit_exp.sampler.reuse.uniform import Uniform
from dit_exp.types.network import Encoded

LABEL = torch.tensor([1, 7])
TIMES = [900.0, 700.0, 500.0, 300.0, 100.0]


def random_likeness(total: int, seed: int) -> Tensor:
    """Symmetric, 1 on the diagonal, and not smooth in any direction."""
    drawn = torch.rand(total, total, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return ((drawn + drawn.T) / 2).fill_diagonal_(1)


def kept_likeness(alike: Tensor, runs: tuple[int, ...]) -> float:
    """The sum over evaluations of how alike each is to the run whose blocks it uses."""
    return sum(float(alike[i, max(run for run in runs if run <= i)]) for i in range(len(alike)))


def every_plan(total: int, count: int, needed: set[int]) -> list[tuple[int, ...]]:
    rest = itertools.combinations(range(1, total), count - 1)
    return [(0, *more) for more in rest if needed <= {0, *more}]


def never(*_):
    raise AssertionError("Nothing is to be measured or rehearsed here.")


@pytest.mark.parametrize("total", range(1, 11))
@pytest.mark.parametrize("needed", [set(), {3}, {2, 6}])
def test_the_plan_is_the_best_of_all_plans(total: int, needed: set[int]):
    needed = {i for i in needed if i < total}
    for count in range(1 + len(needed), total + 1):
        alike = random_likeness(total, seed=100 * total + count)
        values = {runs: kept_likeness(alike, runs) for runs in every_plan(total, count, needed)}
        assert best(alike, count, needed) == max(values, key=values.__getitem__)


def test_a_plan_that_cannot_hold_what_must_be_run_is_refused():
    with pytest.raises(ValueError, match=r"1 runs of 5 evaluations cannot hold the 2 that must be"):
        best(random_likeness(5, 0), 1, {3})
    with pytest.raises(ValueError, match=r"6 runs of 5"):
        best(random_likeness(5, 0), 6)


@pytest.mark.parametrize(("total", "ratio", "every"), [(12, 0.5, 2), (12, 0.75, 4), (250, 0.8, 5), (7, 0, 1)])
def test_uniform_runs_at_every_kth_evaluation(total: int, ratio: float, every: int):
    plan = Uniform(ratio).plan(lambda: [1] * total, never)
    assert plan.runs == tuple(range(0, total, every))


def test_uniform_runs_are_spread_evenly_where_their_number_does_not_divide():
    runs = (*Uniform(0.87).plan(lambda: [2] * 50, never).runs, 50)
    assert {b - a for a, b in itertools.pairwise(runs)} == {8, 9}


@pytest.mark.parametrize("make", [Uniform, Planned, Forecast])
@pytest.mark.parametrize("total", [20, 100, 250])
@pytest.mark.parametrize("ratio", [0.0, 0.5, 0.67, 0.75, 0.8, 0.87])
def test_exactly_the_share_that_is_asked_for_is_kept(make, total: int, ratio: float):
    """To a whole evaluation; also where guidance sets in and ends on the way."""
    for batches in ([1] * total, [1] * (total // 3) + [2] * (total // 3) + [1] * (total - 2 * (total // 3))):
        runs = make(ratio).plan(lambda given=batches: given, lambda *_: random_likeness(total, 1)).runs
        assert total - len(runs) == round(ratio * total)
        assert runs[0] == 0
        assert len(set(runs)) == len(runs) == sum(0 <= run < total for run in runs)


def test_where_guidance_changes_the_batch_the_blocks_are_run():
    batches = [1, 1, 1, 2, 2, 2, 2, 1, 1, 1]
    assert {0, 3, 7} <= set(Uniform(0.5).plan(lambda: batches, never).runs)
    assert Uniform(0.9).plan(lambda: batches, never).runs == (0, 3, 7)


def test_planned_runs_where_the_measured_states_change():
    """Two halves that are alike within themselves alone."""
    alike = torch.block_diag(torch.ones(3, 3), torch.ones(7, 7)).double()
    asked = []

    def measured(*given):
        asked.append(given)
        return alike

    plan = Planned(0.8, depth=5, images=3).plan(lambda: [1] * 10, measured)
    assert plan == Plan((0, 3), 5)
    assert asked == [(5, 3)]


def test_no_reuse_is_the_model_itself_and_measures_nothing():
    assert NoReuse().plan(never, never) is None
    model = network("dit")
    assert following(model, None) is model


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Uniform(1.0), r"sampler.reuse.ratio=1.0 must be from 0.*to below 1"),
        (lambda: Planned(-0.1), r"sampler.reuse.ratio=-0.1"),
        (lambda: Planned(0.5, images=0), r"sampler.reuse.images=0 must be at least 1"),
    ],
)
def test_numbers_that_are_none_are_refused(make, text: str):
    with pytest.raises(ValueError, match=text):
        make()


def walk(model, batch: int = 2, seed: int = 2) -> list[Tensor]:
    """What a network says along the times, each of another image."""
    with torch.no_grad():
        return [
            model(images(count=batch, seed=seed + i), torch.full((batch,), t), LABEL[:batch])
            for i, t in enumerate(TIMES)
        ]


class Counted:
    """Counts the calls of a model's encode and decode."""

    def __init__(self, model, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        for name in ("encode", "decode"):
            inner = getattr(model, name)

            def call(*args, name=name, inner=inner):
                self.calls.append(name)
                return inner(*args)

            monkeypatch.setattr(model, name, call)


@pytest.mark.parametrize("name", STACKS)
def test_blocks_run_at_every_evaluation_are_the_model_bit_for_bit(name: str):
    model = randomized(network(name))
    kept = following(model, Plan((0, 1, 2, 3, 4), None))
    assert all(torch.equal(a, b) for a, b in zip(walk(model), walk(kept), strict=True))


@pytest.mark.parametrize("name", STACKS)
def test_between_two_runs_what_the_first_gave_is_decoded(name: str):
    model = randomized(network(name))
    with torch.no_grad():
        first = model.encode(images(seed=2), torch.full((2,), TIMES[0]), LABEL)
        third = model.encode(images(seed=4), torch.full((2,), TIMES[2]), LABEL)
        wanted = [
            model.decode(images(seed=2 + i), torch.full((2,), t), LABEL, first if i < 2 else third)
            for i, t in enumerate(TIMES)
        ]
    said = walk(Kept(model, Plan((0, 2), None)))
    assert all(torch.equal(a, b) for a, b in zip(said, wanted, strict=True))
    assert not torch.equal(said[1], walk(model)[1])


def test_the_first_blocks_are_run_as_often_as_planned_and_the_others_each_time(monkeypatch):
    model = randomized(network("dit"))
    counted = Counted(model, monkeypatch)
    walk(Kept(model, Plan((0, 3), 2)))
    assert counted.calls == ["encode", "decode", "decode", "decode", "encode", "decode", "decode"]


def test_a_trajectory_starts_from_nothing_that_another_kept():
    model, plan = randomized(network("dit")), Plan((0,), None)
    alone = walk(Kept(model, plan), batch=1, seed=7)
    walk(Kept(model, plan), batch=2, seed=2)
    assert all(torch.equal(a, b) for a, b in zip(walk(Kept(model, plan), 1, 7), alone, strict=True))


def test_one_state_is_held_at_a_time(monkeypatch):
    """Each tensor that encode made is gone when the next is made, and the last one with its trajectory."""
    model = randomized(network("uvit"))
    made, alive = [], []
    inner = model.encode

    def encode(*args):
        gc.collect()
        alive.append(sum(ref() is not None for ref in made))
        encoded = inner(*args)
        made.extend(weakref.ref(tensor) for tensor in encoded.tensors)
        return encoded

    monkeypatch.setattr(model, "encode", encode)
    kept = Kept(model, Plan((0, 1, 3), None))
    walk(kept)
    assert alive == [0, 0, 0]
    del kept
    gc.collect()
    assert len(made) >= 6
    assert not any(ref() is not None for ref in made)


def test_the_batch_may_not_change_between_two_runs():
    kept = Kept(randomized(network("dit")), Plan((0,), None))
    with torch.no_grad():
        kept(images(), torch.tensor([900.0, 900.0]), LABEL)
        with pytest.raises(ValueError, match=r"Encode anew where the batch or the image size changes"):
            kept(images(count=1), torch.tensor([800.0]), LABEL[:1])


@pytest.mark.parametrize("make", [Uniform, Planned])
@pytest.mark.parametrize(
    ("name", "depth", "text"),
    [
        ("diffit_cifar", 2, r"keeps its whole way down, 3 blocks, not 2"),
        ("dit", 5, r"5 blocks cannot be kept of a model that has 4"),
        ("dit", 0, r"0 blocks cannot be kept"),
        ("ddt", 2, r"keeps its whole encoder, model.encoder_depth=3 blocks, not 2"),
    ],
)
def test_a_model_without_such_a_prefix_is_refused(make, name: str, depth: int | None, text: str):
    model = NETWORKS[name] and network(name)
    with pytest.raises(ValueError, match=text):
        make(0.5, depth).check(model, images(count=1), torch.ones(1), LABEL[:1])


@pytest.mark.parametrize("name", STACKS)
def test_every_stack_has_a_prefix_to_keep(name: str):
    Uniform(0.5).check(network(name), images(count=1), torch.ones(1), LABEL[:1])


def test_watching_changes_nothing_and_records_each_state():
    model = randomized(network("ddt"))
    watched = Watched(model, None)
    assert all(torch.equal(a, b) for a, b in zip(walk(model), walk(watched), strict=True))
    assert [tuple(state.shape) for state in watched.states] == [(2, 16, 32)] * 5


def test_likeness_is_of_what_is_kept_and_not_of_the_tokens_it_is_added_to():
    """Blocks that add the same to whatever comes are as good kept as run, however the image changes."""
    model = randomized(network("dit"))

    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(32))

        def forward(self, tokens, *_):
            return tokens + self.weight

    model.blocks = nn.ModuleList(Constant() for _ in model.blocks)
    watched = Watched(model, 3)
    with torch.no_grad():
        for seed in range(3):
            watched(images(seed=seed), torch.full((2,), 100.0 * seed), LABEL)
    torch.testing.assert_close(likeness(watched.states), torch.ones(3, 3).double(), rtol=0, atol=1e-5)


def test_likeness_is_the_mean_cosine_of_tokens():
    generator = torch.Generator().manual_seed(0)
    states = [torch.randn(2, 3, 8, generator=generator) for _ in range(4)]
    alike = likeness([*states, 5 * states[0], -states[1]])
    for i, j in itertools.product(range(4), repeat=2):
        wanted = torch.nn.functional.cosine_similarity(states[i], states[j], dim=-1).mean()
        assert float(alike[i, j]) == pytest.approx(float(wanted), abs=1e-6)
    assert torch.equal(alike, alike.T)
    torch.testing.assert_close(alike.diagonal(), torch.ones(6).double())
    assert float(alike[0, 4]) == pytest.approx(1, abs=1e-6)
    assert float(alike[1, 5]) == pytest.approx(-1, abs=1e-6)


def test_states_of_batches_of_other_sizes_are_not_alike():
    alike = likeness([torch.ones(1, 3, 8), torch.ones(2, 3, 8), torch.ones(1, 3, 8)])
    wanted = torch.tensor([[1, 0, 1], [0, 1, 0], [1, 0, 1]]).double()
    torch.testing.assert_close(alike, wanted)


class Replayed:
    """`device.compiled` as CUDA graphs do it: what a call gives is overwritten by the next one's."""

    def __init__(self) -> None:
        self.given: list[Tensor] = []

    def __call__(self, function, mode):
        assert mode == "reduce-overhead"

        def call(*args):
            out = function(*args)
            for tensor in self.given:
                tensor.fill_(torch.nan)
            tensors = out.tensors if isinstance(out, Encoded) else (out,)
            self.given = [tensor.clone() for tensor in tensors]
            return out._replace(tensors=tuple(self.given)) if isinstance(out, Encoded) else self.given[0]

        return call


@pytest.mark.parametrize("name", ["dit", "ddt", "uvit"])
def test_kept_blocks_outlive_the_memory_of_a_cuda_graph(name: str, monkeypatch: pytest.MonkeyPatch):
    model, plan = randomized(network(name)), Plan((0, 2), None)
    wanted = walk(Kept(model, plan))
    monkeypatch.setattr("dit_exp.sampler.reuse.network.compiled", Replayed())
    kept = Kept(model, plan, "reduce-overhead")
    said = walk(lambda *args: kept(*args).clone())
    assert all(torch.equal(a, b) for a, b in zip(said, wanted, strict=True))


def of_times(tensors: list[Tensor], times: list[float]) -> Run:
    return Run(Encoded(1, tuple(tensors)), torch.tensor(times))


def test_what_changes_evenly_over_time_is_forecast_exactly():
    """Each image at times of its own, and tensors of any number of axes."""
    slope = [torch.randn(2, 3, 4), torch.randn(2, 5)]

    def at(times: list[float]) -> Run:
        t = torch.tensor(times)
        return of_times([7 + s * t.view(-1, *[1] * (s.ndim - 1)) for s in slope], times)

    said = ahead(at([600.0, 500.0]), at([800.0, 900.0]), torch.tensor([450.0, 100.0]))
    for own, true in zip(said.tensors, at([450.0, 100.0]).encoded.tensors, strict=True):
        torch.testing.assert_close(own, true, rtol=1e-5, atol=1e-3)


def test_without_two_runs_of_one_batch_at_two_times_the_last_is_kept():
    latest = of_times([torch.ones(2, 3)], [500.0, 500.0])
    t = torch.tensor([400.0, 400.0])
    assert ahead(latest, None, t) is latest.encoded
    assert ahead(latest, of_times([torch.zeros(1, 3)], [600.0]), t) is latest.encoded
    same = ahead(latest, of_times([torch.zeros(2, 3)], [500.0, 500.0]), t)
    assert torch.equal(same.tensors[0], torch.ones(2, 3))


@pytest.mark.parametrize("name", STACKS)
def test_a_forecast_is_decoded_between_runs_and_the_runs_are_the_model(name: str):
    """Runs at 900, 700 and 300: at 500 on the line through the first two, at 100 through the last two."""
    model = randomized(network(name)).eval()
    plan = Forecast(0.4).plan(lambda: [2] * 5, never)._replace(runs=(0, 1, 3))
    assert plan.ahead
    said, whole = walk(Kept(model, plan)), walk(model)
    for i in plan.runs:
        assert torch.equal(said[i], whole[i])

    def run(i: int) -> Run:
        t = torch.full((2,), TIMES[i])
        return Run(model.encode(images(count=2, seed=2 + i), t, LABEL), t)

    with torch.no_grad():
        for i, (latest, earlier) in {2: (1, 0), 4: (3, 1)}.items():
            t = torch.full((2,), TIMES[i])
            state = ahead(run(latest), run(earlier), t)
            expected = model.decode(images(count=2, seed=2 + i), t, LABEL, state)
            torch.testing.assert_close(said[i], expected)
            assert not torch.allclose(
                said[i], model.decode(images(count=2, seed=2 + i), t, LABEL, run(latest).encoded)
            )
