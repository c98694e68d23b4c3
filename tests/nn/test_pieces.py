"""Norms, MLPs, rotary positions, position tables and relative biases against arithmetic and peers."""

from __future__ import annotations

from unittest import mock

import pytest
import torch

from dit_exp.nn.mlp import Mlp, SwiGLU, gelu
from dit_exp.nn.norm import RMSNorm
from dit_exp.nn.patch import fold, patchify
from dit_exp.nn.position import resized
from dit_exp.nn.relative import RelativeBias
from dit_exp.nn.rope import angles, rotated
from dit_exp.types.network import TokenGrid

CPU = torch.device("cpu")


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 5e-6), (torch.bfloat16, 1e-2)]
)
def test_gelu_is_torchs_whether_compiled_or_not(dtype: torch.dtype, tolerance: float):
    x = torch.cat([torch.linspace(-12, 12, 2401), torch.tensor([-3e4, 0, 3e4])]).to(dtype).requires_grad_()
    expected = torch.nn.functional.gelu(x, approximate="tanh")
    [slope] = torch.autograd.grad(expected.sum(), x)
    for form in (gelu, torch.compile(gelu, backend="eager", fullgraph=True)):
        said = form(x)
        assert said.dtype == dtype
        torch.testing.assert_close(said, expected, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(
            torch.autograd.grad(said.sum(), x)[0], slope, rtol=tolerance, atol=tolerance
        )


@pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this CPU has no bfloat16")
def test_an_mlp_without_gradients_says_the_same_in_bfloat16_and_nearer_to_the_truth():
    torch.manual_seed(0)
    mlp, x = Mlp(32, 4.0), drawn(8, 40, 32)

    def said(gradients: bool) -> torch.Tensor:
        with torch.set_grad_enabled(gradients), torch.autocast("cpu", dtype=torch.bfloat16):
            return mlp(x).detach()

    with mock.patch("dit_exp.nn.mlp.gelu", wraps=gelu) as plain:
        together = said(gradients=False)
        assert not plain.called
        apart = said(gradients=True)
        assert plain.called
    exact = mlp.double()(x.double()).detach()
    errors = [float((v - exact).norm() / exact.norm()) for v in (together, apart)]
    assert errors[0] < errors[1] < 2**-7
    assert together.dtype == apart.dtype == torch.bfloat16


def test_rms_norm_equals_timm():
    from timm.layers import RmsNorm

    ours, peer, x = RMSNorm(24), RmsNorm(24, eps=1e-6), drawn(2, 5, 24)
    with torch.no_grad():
        ours.weight.copy_(drawn(24, seed=1))
        peer.weight.copy_(ours.weight)
    torch.testing.assert_close(ours(x), peer(x), rtol=1e-5, atol=1e-6)


def test_the_statistics_of_rms_norm_are_float32_whatever_comes():
    """The squares of 300 overflow float16, and those of bfloat16 keep three digits."""
    norm, large = RMSNorm(8), torch.full((1, 8), 300.0)
    assert norm(large.half()).dtype == torch.float16
    torch.testing.assert_close(norm(large.half()), torch.ones(1, 8, dtype=torch.float16))
    x = drawn(4, 8).bfloat16()
    torch.testing.assert_close(norm(x), norm(x.float()).bfloat16(), rtol=0, atol=0)


def test_swiglu_equals_timm_and_has_as_many_weights_as_an_mlp():
    from timm.layers import SwiGLU as Peer

    ours, peer, x = SwiGLU(24, 4.0, bias=True), Peer(24, 64), drawn(2, 5, 24)
    for mine, theirs in ((ours.gate, peer.fc1_g), (ours.inner, peer.fc1_x), (ours.outer, peer.fc2)):
        theirs.load_state_dict(mine.state_dict())
    torch.testing.assert_close(ours(x), peer(x), rtol=1e-5, atol=1e-6)
    assert sum(p.numel() for p in SwiGLU(24, 4.0).parameters()) == 8 * 24**2


def test_rotary_positions_equal_diffusers_where_the_span_counts_tokens():
    from diffusers.models.embeddings import apply_rotary_emb, get_2d_rotary_pos_embed_lumina

    # Theirs put the row before the column, so a transposed grid is compared.
    theirs = get_2d_rotary_pos_embed_lumina(16, 5, 5).reshape(5, 5, -1).transpose(0, 1).flatten(0, 1)
    x = drawn(2, 3, 25, 16)
    angle = angles(TokenGrid(5, 5), 16, 10_000.0, 4.0, CPU)
    expected = apply_rotary_emb(x.transpose(1, 2), theirs[None], use_real=False).transpose(1, 2)
    torch.testing.assert_close(rotated(x, angle), expected, rtol=1e-4, atol=1e-5)


def test_rotary_products_depend_on_the_offset_alone_and_appended_tokens_stay():
    q, k = drawn(8).expand(1, 1, 17, 8), drawn(8, seed=1).expand(1, 1, 17, 8)
    angle = angles(TokenGrid(4, 4), 8, 10_000.0, 3.0, CPU)
    turned = rotated(q, angle)
    product = (turned @ rotated(k, angle).mT)[0, 0]
    places = [(i // 4, i % 4) for i in range(16)]
    offsets: dict[tuple[int, int], float] = {}
    for i, (r, c) in enumerate(places):
        for j, (s, d) in enumerate(places):
            known = offsets.setdefault((r - s, c - d), float(product[i, j]))
            assert float(product[i, j]) == pytest.approx(known, abs=1e-5)
    assert len({round(v, 3) for v in offsets.values()}) > 40
    assert torch.equal(turned[:, :, 16], q[:, :, 16])


def test_another_grid_lies_between_the_places_of_the_first():
    coarse = angles(TokenGrid(3, 3), 8, 10_000.0, 16.0, CPU).reshape(3, 3, -1)
    fine = angles(TokenGrid(5, 9), 8, 10_000.0, 16.0, CPU).reshape(5, 9, -1)
    torch.testing.assert_close(fine[::2, ::4], coarse)
    assert angles(TokenGrid(1, 1), 8, 10_000.0, 16.0, CPU).abs().sum() == 0


def test_a_head_that_two_axes_cannot_share_is_refused():
    with pytest.raises(
        ValueError, match=r"heads of a multiple of 4 channels.*is 6. Choose other model.heads"
    ):
        angles(TokenGrid(2, 2), 6, 10_000.0, 16.0, CPU)


def test_position_tables_are_interpolated_as_timm_does():
    from timm.layers import resample_abs_pos_embed

    table = drawn(1, 30, 8)
    for rows, columns in ((10, 12), (3, 4), (5, 9)):
        expected = resample_abs_pos_embed(table, [rows, columns], [5, 6], num_prefix_tokens=0)
        ours = resized(table, TokenGrid(5, 6), TokenGrid(rows, columns))
        torch.testing.assert_close(ours, expected)
    assert resized(table, TokenGrid(5, 6), TokenGrid(5, 6)) is table


def test_relative_biases_equal_timm_s_swin():
    from timm.models.swin_transformer import WindowAttention

    ours, peer = RelativeBias(3, 4), WindowAttention(12, 3, window_size=(4, 4))
    with torch.no_grad():
        peer.relative_position_bias_table.copy_(ours.table)
    assert torch.equal(ours(TokenGrid(4, 4)), peer._get_rel_pos_bias()[0])


def test_a_smaller_grid_has_the_biases_of_its_offsets_and_a_larger_one_keeps_the_ends():
    bias = RelativeBias(2, 4)
    whole = bias(TokenGrid(4, 4)).reshape(2, 4, 4, 4, 4)
    part = bias(TokenGrid(2, 3)).reshape(2, 2, 3, 2, 3)
    assert torch.equal(part, whole[:, :2, :3, :2, :3])
    larger = bias(TokenGrid(7, 4)).reshape(2, 7, 4, 7, 4)
    torch.testing.assert_close(larger[:, 6, :, 0], whole[:, 3, :, 0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(larger[:, 2, :, 2], whole[:, 1, :, 1], rtol=1e-5, atol=1e-6)


def test_fold_undoes_patchify():
    image = drawn(2, 3, 4, 6)
    assert torch.equal(fold(patchify(image, 2), 2, 4, 6), image)
