"""The command line as a person meets it: help, messages, exit codes, run directories."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import program
import pytest

PROJECT = Path(__file__).parents[1]
TINY = [
    "data=digits", "data.image_size=8", "tracker=none", "metrics=none", "sampler.steps=2", "model.width=32",
    "model.depth=1", "model.heads=4", "trainer.batch_size=16",
]  # fmt: skip


def run(*words: str, cwd: Path = PROJECT, **environment: str) -> subprocess.CompletedProcess[str]:
    return program.run(*words, cwd=cwd, env=os.environ | environment)


def imported_by(*words: str) -> tuple[subprocess.CompletedProcess[str], set[str]]:
    """A command and the modules that it has imported when it ends."""
    code = (
        "import sys, runpy; sys.argv[0] = 'run.py'\n"
        "try: runpy.run_path('run.py', run_name='__main__')\n"
        "finally: print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    return done, set(done.stdout.splitlines()[-1].split())


def refused(*words: str, code: int = 2, **environment: str) -> str:
    """What a command that must fail says; never a traceback."""
    done = run(*words, **environment)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_help_lists_groups_choices_and_examples():
    done = run("--help")
    assert done.returncode == 0
    assert re.search(r"^  attn: +gqa, mha\*, rope, tmsa, tmsa_window$", done.stdout, re.MULTILINE)
    assert re.search(r"^  model: .*dit_b, dit_l, dit_s\*, dit_xl, hourglass", done.stdout, re.MULTILINE)
    edits = r"img2img, inpaint\*, interpolate, interpolate_images \(task=edit alone\)"
    assert re.search(rf"^  edit: +{edits}$", done.stdout, re.MULTILINE)
    assert re.search(r"^  experiment: .*dit_xl_2_256.* small/report", done.stdout, re.MULTILINE)
    teachers = r"dinov2, efficientnet_lite0\* \(alignment=repa alone\)"
    assert re.search(rf"^  teacher: +{teachers}$", done.stdout, re.MULTILINE)
    assert done.stdout.count("python run.py ") >= 6
    for group in (
        "task",
        "cond",
        "data",
        "process",
        "objective",
        "sampler",
        "guidance",
        "metrics",
        "tracker",
    ):
        assert re.search(rf"^  {group}: ", done.stdout, re.MULTILINE), group


def test_an_unknown_choice_lists_the_choices(tmp_path: Path):
    text = refused("model=dit_z", f"run_dir={tmp_path}/a")
    choices = ", ".join(sorted(path.stem for path in (PROJECT / "conf/model").glob("*.yaml")))
    assert f"model=dit_z: there is no such choice. Choices of model: {choices}" in text


def test_a_misspelt_key_names_the_nearest(tmp_path: Path):
    text = refused("model.depht=3", f"run_dir={tmp_path}/a")
    assert "model.depht=3: there is no key model.depht. Did you mean model.depth?" in text


def test_a_misspelt_group_names_the_nearest(tmp_path: Path):
    assert "Did you mean model=dit_s?" in refused("modle=dit_s", f"run_dir={tmp_path}/a")


def test_a_wrong_type_is_told_before_anything_is_built(tmp_path: Path):
    text = refused("model.width=big", "seed=one", f"run_dir={tmp_path}/a")
    assert "The configuration has 2 problems:" in text
    assert "model.width='big': expected int, got str" in text
    assert "seed='one': expected int, got str" in text


@pytest.mark.parametrize(
    "words", [["model.depht=3"], ["model=dit_z"], ["model.width=big"], ["-m", "model.depht=3,4"]]
)
def test_messages_do_not_wait_for_torch(tmp_path: Path, words: list[str]):
    done, modules = imported_by(*words, "tracker=none", f"run_dir={tmp_path}/a")
    assert done.returncode == 2, done.stderr
    assert "dit_exp.messages" in modules
    assert not {"torch", "mlflow", "numpy"} & modules


@pytest.mark.system  # a whole program each
@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["model.width=30"], "model.width=30 is not divisible by model.heads=4. Choose heads that divide"),
        (["attn=gqa", "attn.kv_heads=3"], "model.heads=4 is not divisible by attn.kv_heads=3"),
        (["data=cifar", "data.root=/nowhere"], "data.root=/nowhere is not a folder"),
        (["trainer.batch_size=5000"], "fewer than one batch of 5000"),
        (["task=evaluate", "checkpoint=/nowhere"], "checkpoint=/nowhere does not exist"),
        (["model.class_dropout=0", "guidance=cfg"], "guidance needs a model with a null label"),
        (["metrics=fid", "metrics.cache={tmp}"], "metrics=offline"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(tmp_path: Path, words: list[str], text: str):
    words = [word.format(tmp=tmp_path) for word in words]
    given = {word.split("=")[0] for word in words}
    tiny = [word for word in TINY if word.split("=")[0] not in given]
    if "data" in given:
        tiny = [word for word in tiny if not word.startswith("data.")]
    assert text in refused(*tiny, *words, f"run_dir={tmp_path}/a", TORCH_HOME=str(tmp_path))


def test_a_run_directory_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    text = refused("data=digits", f"run_dir={tmp_path}/file/a")
    assert f"run_dir={tmp_path}/file/a cannot be written" in text
    assert "Pass run_dir=DIR." in text


def test_a_foreign_file_as_checkpoint_is_refused(tmp_path: Path):
    (tmp_path / "notes.pt").write_text("not a checkpoint")
    text = refused(*TINY, "task=sample", f"checkpoint={tmp_path}/notes.pt", f"run_dir={tmp_path}/a")
    assert f"checkpoint={tmp_path}/notes.pt is not a checkpoint of this program" in text


@pytest.mark.system
def test_a_multirun_makes_a_run_directory_for_each_cell(tmp_path: Path):
    done = run("-m", "cond=adaln,token", *TINY, "trainer.max_steps=2", f"run_dir={tmp_path}/sweep")
    assert done.returncode == 0, done.stderr
    for number, cond in enumerate(("adaln", "token")):
        folder = tmp_path / "sweep" / str(number)
        assert f"cond={cond}" in (folder / "overrides.yaml").read_text()
        assert (folder / "samples.png").stat().st_size > 0


@pytest.mark.system
def test_train_then_sample_then_evaluate_from_another_folder(tmp_path: Path):
    assert run(*TINY, "trainer.max_steps=2", "run_dir=a", cwd=tmp_path).returncode == 0
    done = run("task=sample", "checkpoint=a", "tracker=none", "run_dir=b", "task.num_images=3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "b" / "samples").iterdir())) == 3
    metrics = ["metrics=quick", "metrics.num_samples=20", "metrics.reference_samples=20"]
    done = run("task=evaluate", "checkpoint=a", "tracker=none", "run_dir=c", *metrics, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "fd_efficientnet_lite0" in (tmp_path / "c" / "metrics.json").read_text()


@pytest.mark.system
def test_what_a_command_does_without_is_not_imported(tmp_path: Path):
    """MLflow by those that are not tracked, the compiler, which torch's optimizers import, by drawing."""
    done, modules = imported_by(*TINY, "trainer.max_steps=1", f"run_dir={tmp_path}/a")
    assert done.returncode == 0, done.stderr
    assert "torch" in modules
    assert "mlflow" not in modules
    words = ["task=sample", f"checkpoint={tmp_path}/a", "tracker=none", f"run_dir={tmp_path}/b"]
    done, modules = imported_by(*words)
    assert done.returncode == 0, done.stderr
    assert "torch" in modules
    assert not {"mlflow", "torch._dynamo"} & modules
