"""A compiled run follows the plain one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dit_exp.nn.linear import Linear
from dit_exp.trainer.history import read_rows

PROJECT = Path(__file__).parents[2]
TINY = [
    "data=digits", "data.image_size=8", "tracker=none", "metrics=none", "model.width=32", "model.depth=1",
    "model.heads=4", "trainer.max_steps=6", "trainer.batch_size=16", "trainer.warmup_steps=0",
    "optimizer.lr=1e-2", "sampler.steps=2",
]  # fmt: skip
HALF = ["trainer.precision=bf16"]

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(
        shutil.which("g++") is None, reason="torch.compile needs a C++ compiler: apt-get install g++"
    ),
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where compiled code lies, so that no earlier program's is found."""
    return tmp_path_factory.mktemp("compiled")


def train(cache: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(cache)}
    command = [sys.executable, str(PROJECT / "run.py"), *TINY, *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def compiled_in_bf16(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a compiled run."""
    folder = tmp_path_factory.mktemp("bf16") / "run"
    done = train(cache, *HALF, "trainer.compile=true", f"run_dir={folder}")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize(
    "extra", [[], ["augment=edm", "alignment=repa", "alignment.width=32", "teacher.image_size=32"]]
)
def test_a_compiled_run_has_the_losses_of_a_plain_one(tmp_path: Path, cache: Path, extra: list[str]):
    for name in ("false", "true"):
        done = train(cache, f"trainer.compile={name}", f"run_dir={tmp_path}/{name}", *extra)
        assert done.returncode == 0, done.stderr
    assert_same_losses(tmp_path / "false", tmp_path / "true", 1e-4)


def test_a_compiled_run_in_bf16_has_the_losses_of_a_plain_one(
    tmp_path: Path, cache: Path, compiled_in_bf16: Path
):
    done = train(cache, *HALF, f"run_dir={tmp_path}/plain")
    assert done.returncode == 0, done.stderr
    assert_same_losses(tmp_path / "plain", compiled_in_bf16, 1e-2)


def assert_same_losses(one: Path, two: Path, tolerance: float) -> None:
    plain, compiled = (read_rows(folder / "history.jsonl") for folder in (one, two))
    assert len(plain) == len(compiled) == 6
    for row, other in zip(plain, compiled, strict=True):
        for column in row.keys() & {"loss", "alignment"}:
            assert other[column] == pytest.approx(row[column], rel=tolerance, abs=1e-6)
    assert plain[-1]["loss"] < plain[0]["loss"]


@pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this CPU has no bfloat16")
def test_a_compiler_does_not_put_the_bias_back_into_a_product(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """In a folder of its own: this process keeps open what it compiled, and the next test cuts files off."""
    from torch._inductor.utils import run_and_get_code

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch.manual_seed(0)
    layer, x = Linear(64, 256), torch.randn(256, 64)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        said, [code] = run_and_get_code(torch.compile(layer, dynamic=False), x)
        expected = layer(x)
    assert "extern_kernels.mm(" in code
    assert "addmm" not in code
    assert (said - expected).float().norm() < 2**-8 * expected.float().norm()


@pytest.mark.usefixtures("compiled_in_bf16")
def test_compiled_code_that_was_cut_off_is_one_message_that_names_the_file(tmp_path: Path, cache: Path):
    """As a program leaves it that is killed while the C++ compiler writes."""
    libraries = list(cache.rglob("*.so"))
    for library in libraries:
        library.write_bytes(library.read_bytes()[:100])
    done = train(cache, *HALF, "trainer.compile=true", f"run_dir={tmp_path}/cut")
    assert done.returncode == 1
    assert sum(f"Compiled code in {library} cannot" in done.stderr for library in libraries) == 1
    assert "Delete it and start again" in done.stderr
    assert "Traceback" not in done.stderr
