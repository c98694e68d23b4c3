"""EDM's augmentation: what each transform does, and what the network is told of it."""

from __future__ import annotations

import math

import pytest
import torch

from dit_exp.augment.edm import EdmAugmentation, Geometry
from dit_exp.augment.none import NoAugmentation

ENTRIES = ["mirror", "upend", "scale", "cos", "sin", "along", "across", "right", "down"]


def geometry(n: int = 1, **values: float) -> Geometry:
    nothing = dict.fromkeys(Geometry._fields, 0.0)
    return Geometry(*(torch.full((n,), value) for value in (nothing | values).values()))


def images(n: int = 1, rows: int = 16, columns: int = 16) -> torch.Tensor:
    return torch.rand(n, 3, rows, columns, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_flips_are_exact_and_do_not_resample():
    x = images(2, 7, 5)
    assert torch.equal(geometry(2, mirror=1.0).apply(x), x.flip(3))
    assert torch.equal(geometry(2, upend=1.0).apply(x), x.flip(2))
    assert torch.equal(geometry(2, mirror=1.0, upend=1.0).apply(x), x.flip(2, 3))


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_quarter_turn_goes_counter_clockwise(quarters: int):
    x = images()
    turned = geometry(angle=quarters * math.pi / 2).apply(x)
    torch.testing.assert_close(turned, x.rot90(quarters, (2, 3)), atol=1e-4, rtol=0)


def test_whole_pixels_are_moved_right_and_down():
    """Translation by an eighth of a side is 2 of 16 columns and 1 of 8 rows; borders are reflected."""
    x = images(1, 8, 16)
    moved = geometry(right=1.0).apply(x)
    torch.testing.assert_close(moved[..., 2:], x[..., :-2], atol=1e-4, rtol=0)
    torch.testing.assert_close(moved[..., :2], x[..., :2].flip(3), atol=1e-4, rtol=0)
    moved = geometry(down=-3.0).apply(x)
    torch.testing.assert_close(moved[..., :-3, :], x[..., 3:, :], atol=1e-4, rtol=0)


def test_scale_and_stretch_are_measured_on_a_wide_disk():
    """The second moments of a smooth blob grow with the square of the magnification along each axis."""
    place = torch.arange(64.0) - 31.5
    y, x = torch.meshgrid(place, place, indexing="ij")
    blob = torch.exp(-(x**2 + y**2) / 72)[None, None]

    def spread(image: torch.Tensor) -> tuple[float, float, float]:
        mass = image.sum()
        return tuple(float((image * m).sum() / mass) for m in (x * x, y * y, x * y))  # type: ignore

    before, _, _ = spread(blob)
    grown = spread(geometry(scale=2.0).apply(blob))
    assert grown == pytest.approx((before * 2**0.8, before * 2**0.8, 0.0), rel=2e-2, abs=0.01)
    wide = spread(geometry(stretch=2.0).apply(blob))
    assert wide == pytest.approx((before * 2**0.8, before * 2**-0.8, 0.0), rel=2e-2, abs=0.01)
    upright = spread(geometry(stretch=2.0, along=math.pi / 2).apply(blob))
    assert upright == pytest.approx((before * 2**-0.8, before * 2**0.8, 0.0), rel=2e-2, abs=0.01)
    slanted = spread(geometry(stretch=2.0, along=math.pi / 4).apply(blob))
    assert slanted[0] == pytest.approx(slanted[1], rel=2e-2)
    assert slanted[2] == pytest.approx(before * (2**0.8 - 2**-0.8) / 2, rel=2e-2)  # x right, y down


def test_turning_comes_before_shifting():
    x = images()
    both = geometry(angle=math.pi / 2, right=1.0).apply(x)
    torch.testing.assert_close(both[..., 2:], x.rot90(1, (2, 3))[..., :-2], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, {}),
        ({"mirror": 1.0}, {"mirror": 1.0}),
        ({"upend": 1.0}, {"upend": 1.0}),
        ({"scale": -1.3}, {"scale": -1.3}),
        ({"angle": math.pi / 2}, {"cos": -1.0, "sin": 1.0}),
        ({"stretch": 2.0, "along": math.pi / 6}, {"along": 3**0.5, "across": 1.0}),
        ({"along": 1.0}, {}),
        ({"right": 0.5, "down": -0.25}, {"right": 0.5, "down": -0.25}),
    ],
)
def test_labels_are_the_nine_of_the_paper(values: dict[str, float], expected: dict[str, float]):
    label = geometry(3, **values).label()
    assert label.shape == (3, EdmAugmentation.entries)
    wanted = torch.tensor([expected.get(name, 0.0) for name in ENTRIES])
    torch.testing.assert_close(label, wanted.expand(3, -1), atol=1e-6, rtol=1e-6)


def test_probability_zero_is_the_identity_bit_for_bit():
    x = images(64)
    image, told = EdmAugmentation(probability=0.0)(x)
    assert torch.equal(image, x)
    assert torch.equal(told["augmentation"], torch.zeros(64, 9))


def test_each_transform_is_drawn_at_the_asked_rate_and_by_itself():
    torch.manual_seed(0)
    n, p = 40_000, 0.3
    drawn = EdmAugmentation(p).draw(n, torch.device("cpu"))
    rates = {"mirror": 0.5, "upend": p / 2, "along": 0.5} | dict.fromkeys(
        ("scale", "angle", "stretch", "right", "down"), p
    )
    used = {name: getattr(drawn, name) != 0 for name in Geometry._fields}
    for name, rate in rates.items():
        assert float(used[name].float().mean()) == pytest.approx(rate, abs=0.01), name
    assert torch.equal(used["right"], used["down"])
    assert float((used["scale"] & used["angle"]).float().mean()) == pytest.approx(p * p, abs=0.01)
    for name in ("scale", "stretch", "right", "down"):
        values = getattr(drawn, name)[used[name]]
        assert (float(values.mean()), float(values.std())) == pytest.approx((0, 1), abs=0.03), name
    turns = drawn.angle[used["angle"]]
    assert float(turns.std()) == pytest.approx(math.pi / 3**0.5, rel=0.03)
    always = EdmAugmentation(1.0).draw(1000, torch.device("cpu"))
    assert all((getattr(always, name) != 0).all() for name in ("scale", "angle", "stretch", "right", "down"))


def test_an_image_that_nothing_moves_is_untouched_among_others_that_are():
    x = images(200)
    torch.manual_seed(0)
    image, told = EdmAugmentation(0.3)(x)
    label = told["augmentation"]
    still = ~label[:, 2:].any(1)
    assert 20 < int(still.sum()) < 120
    flipped = torch.where(label[:, 0, None, None, None] > 0, x.flip(3), x)
    flipped = torch.where(label[:, 1, None, None, None] > 0, flipped.flip(2), flipped)
    assert torch.equal(image[still], flipped[still])
    assert all(not torch.equal(a, b) for a, b in zip(image[~still], flipped[~still], strict=True))


def test_none_gives_the_image_itself_and_draws_nothing():
    x, before = images(), torch.get_rng_state()
    image, told = NoAugmentation()(x)
    assert image is x
    assert told == {}
    assert torch.equal(torch.get_rng_state(), before)


def test_a_probability_outside_0_to_1_is_refused():
    with pytest.raises(ValueError, match=r"augment.probability=1.5 must lie in \[0, 1\]"):
        EdmAugmentation(1.5)
