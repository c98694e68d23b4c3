"""What stands in a report, made from folders of sweeps whose scores are known."""

from __future__ import annotations

from pathlib import Path

import pytest
from sweeping import CONFIG, LOG_ERROR, finish, write_sweep

from dit_exp.errors import UserError
from dit_exp.report import plots
from dit_exp.report.contents import contents
from dit_exp.report.page import Report
from dit_exp.sweep.folder import Status, Sweep

AXES = {"cond": ["adaln", "token"], "attn": ["mha", "gqa"], "seed": ["0", "1", "2"]}


def score(settings: dict[str, str]) -> dict[str, float]:
    """token is 6 lower than adaln, gqa 1 higher than mha, and each seed adds its number."""
    fid = 40 - 6 * (settings["cond"] == "token") + (settings["attn"] == "gqa") + int(settings["seed"])
    return {"fid": fid, "recall": 0.5 + fid / 1000}


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes a second; test_page.py looks at drawings."""
    monkeypatch.setattr(plots, "_drawn", lambda name, draw: plots.Drawing("<svg></svg>", b""))


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    return write_sweep(tmp_path / "sweep", AXES, score)


def table(report: Report, section: str, title: str = "") -> list[list[str]]:
    """Header and rows of a table on the page."""
    [found] = [t for s in report.sections if s.title == section for t in s.tables if t.title == title]
    return [found.header, *found.rows]


def test_scores_are_grouped_over_seeds_with_the_best_first(sweep: Sweep):
    header, *rows = table(contents(sweep), "Scores")
    assert header == [
        "setting", "seeds", "fid, n = 5,000 ↓", "recall, n = 5,000 ↑", "validation_loss ↓", "loss ↓"
    ]  # fmt: skip
    # m, m + 1 and m + 2: half the interval is 4.302653 / sqrt(3) = 2.484
    assert [row[:3] for row in rows] == [
        ["cond=token attn=mha", "3", "35.0 [32.5, 37.5]"],
        ["cond=token attn=gqa", "3", "36.0 [33.5, 38.5]"],
        ["cond=adaln attn=mha", "3", "41.0 [38.5, 43.5]"],
        ["cond=adaln attn=gqa", "3", "42.0 [39.5, 44.5]"],
    ]
    assert rows[0][3] == "0.5350 [0.5325, 0.5375]"


def test_costs_are_means(sweep: Sweep):
    header, *rows = table(contents(sweep), "Cost of a cell")
    assert header == [
        "setting", "minutes", "images", "GMAC / image", "parameters", "memory, GiB", "images / s"
    ]  # fmt: skip
    assert rows[0] == ["cond=token attn=mha", "2", "64,000", "0.125", "1.235 M", "3.5", "512.5"]


def test_a_cost_that_was_not_measured_is_in_no_mean_and_is_said(tmp_path: Path):
    sweep = write_sweep(tmp_path / "sweep", {"cond": ["adaln", "token"], "seed": ["0", "1"]})
    for cell, memory in zip(sweep.cells, (1.5, None, None, None), strict=True):
        finish(cell, {"fid": 1.0 + cell.number}, memory_gib=memory)
    report = contents(sweep)
    header, adaln, token = table(report, "Cost of a cell")
    at = header.index("memory, GiB")
    assert (adaln[at], token[at]) == ("1.5", "–")
    [costs] = [section for section in report.sections if section.title == "Cost of a cell"]
    assert costs.text == ["Mean over seeds.", "memory, GiB: measured in 1 of 4 cells."]


def test_weightings_are_compared_by_the_validation_loss(tmp_path: Path):
    axes = {"weighting": ["none", "min_snr"], "seed": ["0", "1", "2"]}
    sweep = write_sweep(tmp_path / "sweep", axes)
    for cell in sweep.cells:
        weighting = {"weighting": {"_target_": f"dit_exp.weighting.{cell.settings['weighting']}"}}
        config = weighting | {"objective": CONFIG["objective"] | weighting}
        loss = {"none": 0.5, "min_snr": 0.4}[cell.settings["weighting"]] + cell.number / 1e4
        finish(cell, {}, config=config, validation_loss=loss)
    assert contents(sweep).verdict.startswith("weighting=min_snr wins: its validation_loss is 0.400")


def test_autoencoders_are_compared_by_their_reconstructions(tmp_path: Path):
    axes = {"autoencoder": ["vq", "fsq"], "seed": ["0", "1", "2"]}
    psnr = {"vq": 24.5, "fsq": 25.5}
    for first in ("psnr", "rfd_efficientnet_lite0"):
        better = {"psnr": "fsq", "rfd_efficientnet_lite0": "vq"}[first]
        sweep = write_sweep(
            tmp_path / first,
            axes,
            lambda s, first=first: {first: psnr[s["autoencoder"]] + int(s["seed"]) / 100},
        )
        assert contents(sweep).verdict.startswith(f"autoencoder={better} wins: its {first}, n = 5,000 is")


def test_each_factor_has_its_effect_over_all_pairs(sweep: Sweep):
    report = contents(sweep)
    header, adaln, token, pairs = table(report, "Effect of each factor", "cond")
    assert header[:2] == ["cond", "fid, n = 5,000 ↓"]
    assert adaln[:2] == ["adaln", "41.5"]
    assert token[:2] == ["token", "35.5\n-6 [-6, -6]"]
    assert pairs[:2] == ["pairs", "6 of 6"]
    assert table(report, "Effect of each factor", "attn")[2][:2] == ["gqa", "39\n+1 [1, 1]"]


def test_a_cell_that_failed_leaves_only_complete_pairs_and_is_listed(sweep: Sweep):
    failed, running, waiting = sweep.cells[5], sweep.cells[11], sweep.cells[8]
    failed.write(Status("failed", 2, error=LOG_ERROR, log="/logs/5.out"))
    running.write(Status("running", 1, log="/logs/11.out"))
    (waiting.folder / "status.json").unlink()
    report = contents(sweep)
    assert report.verdict.endswith("So far 9 of 12 cells have finished.")
    assert ("cells", "12: 9 finished, 1 failed, 1 waiting, 1 running") in report.facts
    assert table(report, "Not finished")[1:] == [
        ["5: cond=adaln attn=gqa seed=2", "failed", "2", LOG_ERROR, "/logs/5.out"],
        ["8: cond=token attn=mha seed=2", "waiting", "0", "–", "–"],
        ["11: cond=token attn=gqa seed=2", "running", "1", "–", "/logs/11.out"],
    ]
    assert table(report, "Effect of each factor", "cond")[3][1] == "4 of 6"
    html = report.html()
    assert "Lower optimizer.lr &lt;or&gt; clip &amp; go on." in html
    assert "/logs/5.out" in html


def test_scores_of_two_protocols_stand_in_two_columns_and_the_keys_are_named(sweep: Sweep):
    for cell in sweep.cells[:6]:
        sampler = {"name": "ddim", "steps": 250, "eta": 0.0}
        finish(cell, score(cell.settings), {"n": 1000, "nfe": 250, "sampler": sampler})
    report = contents(sweep)
    header, *rows = table(report, "Scores")
    assert header[2:4] == ["fid, n = 1,000 (A) ↓", "fid, n = 5,000 (B) ↓"]
    assert [row[2:4] for row in rows[:2]] == [["41.0 [38.5, 43.5]", "–"], ["42.0 [39.5, 44.5]", "–"]]
    assert [row[2] for row in rows[2:]] == ["–", "–"]
    assert "cond=token attn=gqa" in report.verdict.partition("not compared: ")[2]
    assert table(report, "Protocols", "Scores") == [
        ["key", "A", "B"],
        ["n", "1000", "5000"],
        ["nfe", "250", "50"],
        ["sampler.steps", "250", "50"],
        ["cells", "0, 1, 2, 3, 4, 5", "6, 7, 8, 9, 10, 11"],
    ]
    [protocols] = [s for s in report.sections if s.title == "Protocols"]
    assert protocols.text == [
        "Scores of different protocols stand in columns of their own and are not compared. They differ in: "
        "n, nfe, sampler.steps."
    ]
    # No pair of cells has both, so cond has no effect to show on the fid.
    assert not any("fid" in name for name in table(report, "Effect of each factor", "cond")[0])


def test_losses_of_two_predictions_are_not_compared(tmp_path: Path):
    sweep = write_sweep(tmp_path, {"objective": ["eps", "v"], "seed": ["0", "1"]})
    for cell in sweep.cells:
        name = cell.settings["objective"]
        finish(cell, {}, config=CONFIG | {"objective": {"_target_": f"dit_exp.objective.{name}.Prediction"}})
    report = contents(sweep)
    assert report.verdict.startswith("Nothing to compare: validation_loss (A) is ")
    assert report.verdict.endswith("not compared: objective=v.")
    assert [name for name in table(report, "Scores")[0] if "loss" in name] == [
        "validation_loss (A) ↓", "validation_loss (B) ↓", "loss (A) ↓", "loss (B) ↓"
    ]  # fmt: skip


def test_a_sweep_of_guidance_compares_its_scales(tmp_path: Path):
    sweep = write_sweep(tmp_path, {"guidance.scale": ["1.5", "3.0"], "seed": ["0", "1"]})
    for cell in sweep.cells:
        scale = float(cell.settings["guidance.scale"])
        finish(cell, {"fid": 40 - scale}, {"guidance": {"name": "cfg", "scale": scale}})
    assert contents(sweep).verdict.startswith(
        "guidance.scale=3.0 wins: its fid, n = 5,000 is 37.0 [37.0, 37.0]"
    )


def test_without_scores_the_validation_loss_judges(tmp_path: Path):
    sweep = write_sweep(tmp_path, {"cond": ["adaln", "token"]})
    finish(sweep.cells[0], {}, validation_loss=0.06)
    finish(sweep.cells[1], {}, validation_loss=0.05)
    assert "cond=token has the lowest validation_loss, 0.05 (no interval)" in contents(sweep).verdict


def test_a_score_that_is_no_number_is_in_no_mean(sweep: Sweep):
    finish(sweep.cells[6], {"fid": float("nan"), "recall": 0.5})
    report = contents(sweep)
    assert [row[:3] for row in table(report, "Scores")[1:] if row[0] == "cond=token attn=mha"] == [
        ["cond=token attn=mha", "3", "35.5 [29.1, 41.9]"]  # 35 and 36
    ]
    assert "Cell 6 (cond=token attn=mha): fid is nan; it is in no mean." in report.html()


def test_a_finished_cell_with_a_torn_metrics_file_is_listed(sweep: Sweep):
    (sweep.cells[3].folder / "metrics.json").write_text('{"steps": 10')
    assert table(contents(sweep), "Not finished")[1][:2] == ["3: cond=adaln attn=gqa seed=0", "unreadable"]


def test_files_of_earlier_versions_may_be_missing(sweep: Sweep):
    for cell in sweep.cells:
        for name in ("curve.jsonl", "history.jsonl", "samples.png", "revision.json", "config.yaml"):
            (cell.folder / name).unlink()
    titles = [section.title for section in contents(sweep).sections]
    assert titles == ["Scores", "Cost of a cell", "Effect of each factor", "Score over cost", "Protocols"]


@pytest.mark.parametrize("state", ["waiting", "running", "failed"])
def test_a_sweep_without_a_finished_cell_is_refused(tmp_path: Path, state):
    sweep = write_sweep(tmp_path, {"cond": ["adaln", "token"]})
    for cell in sweep.cells:
        cell.write(Status(state))
    with pytest.raises(UserError, match=rf"has no finished cell to report on \(2 {state}\)"):
        contents(sweep)


def test_samples_stand_side_by_side_from_one_seed(sweep: Sweep):
    (sweep.cells[0].folder / "samples.png").unlink()
    [section] = [s for s in contents(sweep).sections if s.title == "Samples"]
    assert [picture.caption for picture in section.pictures] == [
        "cond=token attn=mha, seed 1, cell 7",
        "cond=token attn=gqa, seed 1, cell 10",
        "cond=adaln attn=mha, seed 1, cell 1",
        "cond=adaln attn=gqa, seed 1, cell 4",
    ]
    assert section.pictures[0].png == (sweep.cells[7].folder / "samples.png").read_bytes()


def test_curves_hold_points_of_one_count_and_say_what_is_left_out(sweep: Sweep):
    [section] = [s for s in contents(sweep).sections if s.title == "Scores over images"]
    assert [picture.caption for picture in section.pictures] == [
        "fid, n = 500 over training images. Left out, since counts do not compare: 12 with n = 5,000.",
        "recall, n = 500 over training images. Left out, since counts do not compare: 12 with n = 5,000.",
        "validation_loss over training images.",
    ]


def test_the_commits_of_cells_and_their_changes_are_told(sweep: Sweep):
    (sweep.cells[2].folder / "revision.json").write_text('{"git_commit": "beef", "git_dirty": "True"}')
    facts = dict(contents(sweep).facts)
    assert facts["commit"] == "c0ffee; 1 cells ran on beef; 1 cells ran with uncommitted changes"
    assert facts["command"] == "python run.py +sweep=conditioning"
