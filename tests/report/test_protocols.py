"""Which scores may share a column."""

from __future__ import annotations

from sweeping import CONFIG, PROTOCOL

from dit_exp.report.protocols import differing, of_loss, of_scores, variants


def parted(*changes, factors=()):
    return variants([of_scores(PROTOCOL | change) for change in changes], factors)


def test_the_seed_and_the_step_do_not_part_scores():
    [one] = parted({"seed": 0, "step": 10}, {"seed": 1, "step": 20, "warning": "5 images"})
    assert (one.letter, one.members) == ("", [0, 1])


def test_a_count_parts_them_and_the_larger_part_comes_first():
    found = parted({"n": 1000}, {}, {})
    assert [(v.letter, v.members, v.protocol["n"]) for v in found] == [("A", [1, 2], 5000), ("B", [0], 1000)]
    assert differing(found) == {"n": [5000, 1000]}


def test_the_keys_that_differ_are_dotted_and_a_missing_one_is_none():
    steps = {"sampler": {"name": "ddim", "steps": 250, "eta": 0.0}, "nfe": 250}
    names = {"sampler": {"name": "euler", "steps": 50}}
    assert differing(parted({}, steps)) == {"nfe": [50, 250], "sampler.steps": [50, 250]}
    assert differing(parted({}, names)) == {"sampler.name": ["ddim", "euler"], "sampler.eta": [0.0, None]}


def test_what_the_sweep_itself_varies_in_drawing_is_its_question():
    scales = [{"guidance": {"name": "cfg", "scale": scale}, "nfe": 100} for scale in (1.5, 3.0)]
    assert len(parted(*scales)) == 2
    assert len(parted(*scales, factors=["guidance.scale"])) == 1
    assert len(parted(*scales, factors=["guidance"])) == 1
    assert len(parted(*scales, factors=["guidance.channels"])) == 2
    twice = [{"nfe": 50}, {"nfe": 100, "guidance": {"name": "cfg"}}]
    assert len(parted(*twice, factors=["guidance"])) == 1
    assert len(parted({}, {"precision": "bf16"}, factors=["trainer.precision"])) == 1
    assert len(parted({}, {"precision": "bf16"}, factors=["attn"])) == 2


def test_a_sweep_of_experiments_asks_for_all_that_they_choose_in_drawing():
    other = {
        "sampler": {"name": "heun", "steps": 10}, "grid": {"name": "karras"}, "process": {"name": "flow"},
        "objective": {"name": "v"}, "guidance": {"name": "interval", "scale": 1.5}, "nfe": 19,
        "ema_decay": 0.999,
    }  # fmt: skip
    assert len(parted({}, other)) == 2
    assert len(parted({}, other, factors=["experiment"])) == 1
    assert len(parted({}, other | {"n": 1000}, factors=["experiment"])) == 2
    assert len(parted({}, {"grid": {"name": "karras"}}, factors=["grid"])) == 1


def test_how_images_are_judged_parts_scores_whatever_the_sweep_varies():
    assert len(parted({}, {"n": 1000}, factors=["metrics.num_samples", "n"])) == 2
    other = {"reference": {"kind": "data", "identity": "other"}}
    assert len(parted({}, other, factors=["data"])) == 2
    assert len(parted({}, {"extractor": "dinov2-vit-l-14"}, factors=["metrics"])) == 2


def test_a_loss_depends_on_what_is_predicted_and_not_on_where_the_data_lies():
    moved = CONFIG | {"data": CONFIG["data"] | {"root": "/elsewhere"}}
    v = CONFIG | {"objective": {"_target_": "dit_exp.objective.v.V"}}
    protocols = [of_loss("loss", config) for config in (CONFIG, moved, v)]
    found = variants(protocols, [])
    assert [variant.members for variant in found] == [[0, 1], [2]]
    assert differing(found) == {"objective": ["dit_exp.objective.eps.Eps", "dit_exp.objective.v.V"]}


def test_a_validation_loss_does_not_depend_on_how_the_training_draws_times_and_counts_them():
    def config(timesteps: str, gamma: float):
        groups = {"timesteps": {"_target_": timesteps}, "weighting": {"_target_": "min_snr", "gamma": gamma}}
        return CONFIG | groups | {"objective": CONFIG["objective"] | groups}

    configs = [config("uniform", 5.0), config("logit_normal", 1.0)]
    assert len(variants([of_loss("validation_loss", config) for config in configs], [])) == 1
    parted = differing(variants([of_loss("loss", config) for config in configs], []))
    assert parted.keys() >= {"timesteps", "weighting.gamma"}


def test_a_validation_loss_depends_on_its_images():
    fewer = CONFIG | {"task": {"validation_images": 64}}
    protocols = [of_loss("validation_loss", config) for config in (CONFIG, fewer)]
    assert differing(variants(protocols, [])) == {"validation_images": [512, 64]}
    assert of_loss("loss", CONFIG) == of_loss("loss", fewer)
