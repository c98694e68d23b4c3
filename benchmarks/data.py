"""Images a second that each data set hands to training, beside those that a training step takes.

Synthetic photographs of 375x500 in class folders and in parquet, latents encoded from them, and decoded
arrays; all in one run on the same machine, interleaved, the first round thrown away. The share is that of a
step's time which one would wait for the data if nothing were decoded ahead: below 1 the data keep up.
Run: python -m benchmarks.data [seconds a measurement] [model keys, as model=dit_b trainer.batch_size=64]
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from composing import composed
from encoding import encoding, using

from benchmarks.command import told
from dit_exp.build import build
from dit_exp.data.celebahq import CelebaHQ
from dit_exp.data.folder import Folder
from dit_exp.data.imagenet import ImageNet
from dit_exp.data.latents import Latents
from dit_exp.task import measure
from dit_exp.task.cache import cache
from dit_exp.types.data import DataSet

IMAGES, ROUNDS = 512, 3
STEP = ["model=dit_s", "model.patch_size=2", "trainer.batch_size=32"]


def photographs(count: int) -> list[bytes]:
    """JPEG files of smooth noise, about as large as photographs are."""
    from PIL import Image

    draw, encoded = np.random.default_rng(0), []
    for _ in range(count):
        small = Image.fromarray(draw.integers(0, 256, (47, 63, 3), dtype=np.uint8))
        file = io.BytesIO()
        small.resize((500, 375), Image.Resampling.BICUBIC).save(file, "JPEG", quality=92)
        encoded.append(file.getvalue())
    return encoded


def written(folder: Path) -> None:
    """folder/classes/train/CLASS/*.jpg and folder/parquet/train-0.parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    encoded = photographs(IMAGES)
    for i, data in enumerate(encoded):
        path = folder / "classes" / "train" / str(i % 8) / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    rows = {
        "image": [{"bytes": data, "path": None} for data in encoded],
        "label": [i % 8 for i in range(IMAGES)],
    }
    (folder / "parquet").mkdir()
    pq.write_table(pa.table(rows), folder / "parquet" / "train-0.parquet", row_group_size=100)


def data_sets(folder: Path) -> dict[str, DataSet]:
    made = encoding(folder / "run", *using("Halves"), of=["data=folder", f"data.root={folder}/classes"])
    cache(made, str(folder / "latents"), held_out=False)
    parquet, kept = str(folder / "parquet"), str(folder / "cache")
    return {
        "data=folder, 256": Folder(f"{folder}/classes", 256),
        "data=imagenet (parquet), 256": ImageNet(parquet, image_size=256),
        "data=imagenet (parquet), 512": ImageNet(parquet, image_size=512),
        "data=celebahq, 128": CelebaHQ(parquet, image_size=128, cache=kept),
        "data=latents, 3x128x128 float32": Latents(f"{folder}/latents"),
    }


def rate(data: DataSet, seconds: float, batch: int = 64) -> float:
    """Images a second of a feed that is asked for nothing else."""
    batches = data.train(batch, seed=0).batches()
    next(batches)
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        count += len(next(batches).image)
    return count / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("seconds", nargs="?", type=float, default=3.0, help="of a measurement")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of the training step")
    given = parser.parse_intermixed_args()
    seconds = given.seconds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        written(folder)
        sets = data_sets(folder)
        words = ["data=digits", "data.image_size=32", "tracker=none", "metrics=none", *STEP, *given.overrides]
        parts = build(*composed(words), words, folder)
        rates: dict[str, list[float]] = {key: [] for key in sets}
        for turn in range(ROUNDS + 1):
            for key, data in sets.items():
                found = rate(data, seconds)
                if turn:
                    rates[key].append(found)
        step = measure.training(parts, steps=5, warmup=2).images_per_second
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"
    print(f"A training step takes {step:.1f} images/s on {device} ({' '.join(words[4:])}).")
    print(f"{'data':34} {'images/s':>10} {'share of a step':>16}")
    for key, found in rates.items():
        print(f"{key:34} {statistics.median(found):10.0f} {step / statistics.median(found):16.3f}")


if __name__ == "__main__":
    sys.exit(told(main))
