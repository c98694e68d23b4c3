"""The forms that are compared compute the same, and one that does not is found."""

from __future__ import annotations

import pytest
import torch

from benchmarks import alternatives
from benchmarks.forms.kind import Kind
from benchmarks.paired import Setting

TINY = Setting(torch.device("cpu"), rounds=1, quick=True)


@pytest.mark.system
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_every_kind_has_a_row_for_each_of_its_forms():
    """Without a compiler, which would take two minutes to write what is then run for a second."""
    with torch.compiler.set_stance("force_eager"):
        lines = [line.split(" | ") for line in alternatives.rows(TINY, alternatives.KINDS)]
    assert [cells[-1] for cells in lines].count("in use |") == len(alternatives.KINDS)
    assert len(lines) == 3 + 3 + 3 + 2 + 2 + 2 + 2 + 3 + 2 + 2 + 2 + 3 + 2 + 2 + 4 + 3


def test_a_form_that_computes_something_else_is_refused():
    forms = {"right": lambda: torch.ones(2), "wrong": lambda: torch.tensor([1.0, 1.1])}
    with pytest.raises(AssertionError, match="not close"):
        list(alternatives.rows(TINY, [lambda _: Kind("a sum", forms, 1e-4)]))
