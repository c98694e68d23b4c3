"""CIFAR-sized batches in the model's range, against a torchvision data set and its DataLoader."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

from benchmarks.paired import Row, Setting, compared, interleaved
from dit_exp.data.cifar import Cifar
from dit_exp.images import to_model_range
from dit_exp.types.data import Batch

REACH, BATCH = 10.0, 256


def write_parquet(folder: Path, count: int) -> None:
    """Random pictures, as the published files hold CIFAR-10."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    rng, images = np.random.default_rng(0), []
    for _ in range(count):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(buffer, "PNG")
        images.append({"bytes": buffer.getvalue(), "path": None})
    table = pa.table({"img": images, "label": [i % 10 for i in range(count)]})
    pq.write_table(table, folder / "train-00000-of-00001.parquet")


def loader(images: np.ndarray, labels: np.ndarray) -> DataLoader:
    """torchvision's data set of arrays, turned into PIL images one by one, with two workers that stay."""
    from PIL import Image
    from torchvision import transforms
    from torchvision.datasets import VisionDataset

    class Pictures(VisionDataset):
        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, index: int):
            return self.transform(Image.fromarray(images[index])), int(labels[index])

    steps = [
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(3 * [0.5], 3 * [0.5]),
    ]
    data = Pictures(root="", transform=transforms.Compose(steps))
    return DataLoader(data, BATCH, shuffle=True, drop_last=True, num_workers=2, persistent_workers=True)


def check_same(feed: Iterator[Batch], peer: DataLoader, count: int) -> None:
    """Raises AssertionError unless an epoch of both has the same labels and the same mean, shuffled and
    mirrored as they are, and reaches from -1 to 1.
    """
    mine = [(to_model_range(batch.image).cpu(), batch.label) for batch in islice(feed, count // BATCH)]
    ours, theirs = ([torch.cat(part) for part in zip(*side, strict=True)] for side in (mine, peer))
    torch.testing.assert_close(ours[1].cpu().sort().values, theirs[1].sort().values)
    for reduce in (torch.mean, torch.amin, torch.amax):
        torch.testing.assert_close(reduce(ours[0]), reduce(theirs[0]), rtol=0, atol=1e-5)
    for images, _ in (ours, theirs):
        assert (images.amin(), images.amax()) == (-1, 1)


def rows(setting: Setting) -> Iterator[Row]:
    count = setting.size(10_240, 2 * BATCH)
    with tempfile.TemporaryDirectory() as folder:
        write_parquet(Path(folder), count)
        data = Cifar(root=folder, cache=f"{folder}/cache")
        kept, labels = data.arrays("train")
        peer = loader(np.ascontiguousarray(np.asarray(kept).transpose(0, 2, 3, 1)), np.asarray(labels))
        source, held = data.train(BATCH, seed=0), setting.device.type == "cuda"
        feed = (source.on(setting.device) if held else source).batches()

        def ours() -> list[float]:
            """An epoch; each batch is reduced to a number, so that it is really made."""
            return [to_model_range(batch.image).amax().item() for batch in islice(feed, count // BATCH)]

        def theirs() -> list[float]:
            return [image.to(setting.device).amax().item() for image, _ in peer]

        check_same(feed, peer, count)
        times = interleaved({"ours": ours, "torchvision": theirs}, setting)
        times["torchvision, 2 workers"] = times["torchvision"]
        work = f"an epoch of {count} images, {'held on the device' if held else 'decoded before'}"
        yield compared(times, "ours", "torchvision, 2 workers", "data", work, REACH)
