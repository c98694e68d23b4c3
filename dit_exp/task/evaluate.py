"""task=evaluate checkpoint=PATH: score a trained model, with any sampler, guidance and metrics."""

from __future__ import annotations

import logging

from dit_exp import parallel
from dit_exp.errors import UserError
from dit_exp.metrics.names import with_counts
from dit_exp.nn.count import count_gmac, count_parameters
from dit_exp.task import record
from dit_exp.task.generate import check_batch_size, draw_grid, planning
from dit_exp.task.parts import Parts, trained
from dit_exp.task.score import leading, score

log = logging.getLogger(__name__)


def evaluate(parts: Parts, batch_size: int = 250) -> float:
    """Scores the checkpoint's model and returns the first score. The run gets a folder of its own."""
    source = trained(parts)
    if not parts.metrics.num_samples:
        raise UserError("metrics=none leaves task=evaluate nothing to measure. Pass metrics=offline.")
    check_batch_size(batch_size)
    parts.data.check()
    step, plan = source["step"], planning(parts, parts.model)
    with record.recorded(parts):
        parts.metrics.prepare(parts.data)
        if parallel.world().main:
            draw_grid(parts, parts.model, parts.run_dir / "samples.png", plan)
        parts.tracker.image("samples", parts.run_dir / "samples.png", step)
        scores, protocol = score(parts, parts.model, batch_size, step, parts.metrics.num_samples, plan)
        parts.tracker.log(with_counts(scores, protocol), step)
        values = {
            "steps": step,
            "images": source["images"],
            "parameters": count_parameters(parts.model),
            "gmac": count_gmac(parts.model, parts.latent_shape, parts.data.num_classes),
            "checkpoint": source["path"],
            "scores": scores,
            "protocol": protocol,
        }
        record.write_metrics(parts, values)
    for name, value in scores.items():
        log.info("%s %.4g", name, value)
    return leading(scores, float("nan"))
