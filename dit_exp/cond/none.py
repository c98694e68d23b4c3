"""No conditioning but the attention's own."""

from __future__ import annotations

from dit_exp.types.network import Conditioning


class AttentionOnly(Conditioning):
    """Time and label, summed, reach the attention as c and nothing else, as in DiffiT.

    It needs an attention that reads c. Source: Hatamizadeh et al. 2023, arXiv:2312.02139.
    """

    silent = True
