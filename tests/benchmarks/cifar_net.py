"""A small but good CIFAR-10 net for the benchmarks, and the image sets they compare.

python tests/benchmarks/cifar_net.py --data DIR --weights FILE      half an hour on two threads
"""

import argparse
import io
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

import sisom
from sisom.network.models import CifarResNet

EPOCHS, BATCH, PEAK = 30, 256, 0.4
SMALL_EPOCHS, SMALL = (
    14,
    24,
)  # the first epochs see crops of this size: half the work, and no worse in the end


def network() -> nn.Module:
    """ResNet18 for 32x32 images, a quarter as wide as usual: 0.7 million weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return CifarResNet((2, 2, 2, 2), 16, num_classes=10)


def load_network(weights: Path) -> nn.Module:
    return sisom.load_weights(network(), weights.read_bytes()).eval()


def load_images(folder: Path, split: str, count: int | None = None) -> tuple[Tensor, Tensor]:
    """The first `count` rows of a split: images (n, 3, 32, 32) in [-1, 1], and labels."""
    images, labels = [], []
    for path in sorted(folder.glob(f"{split}*.parquet")):
        table = pq.read_table(path).slice(0, None if count is None else count - len(labels))
        images += [small(data) for data in table["image"].to_pylist()]
        labels += table["label"].to_pylist()
    return scaled(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()), torch.tensor(labels)


def small(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB").resize((32, 32)))


def scaled(pixels: Tensor) -> Tensor:
    return pixels.float() / 127.5 - 1


def crops(images: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """A random crop of each image, padded by 4 first if of full size, mirrored half of the time."""
    padded = functional.pad(images, (4, 4, 4, 4)) if size == images.shape[3] else images
    n, room = len(images), padded.shape[3] - size
    places = torch.randint(0, room + 1, (2, n, 1), generator=generator)
    along = torch.arange(size).expand(n, size)
    mirrored = torch.rand(n, 1, generator=generator) < 0.5
    rows = (places[0] + along)[:, None, :, None]
    columns = (places[1] + torch.where(mirrored, along.flip(1), along))[:, None, None, :]
    return padded[torch.arange(n)[:, None, None, None], torch.arange(3)[None, :, None, None], rows, columns]


def train(images: Tensor, labels: Tensor) -> nn.Module:
    model = network().to(memory_format=torch.channels_last)
    steps = len(images) // BATCH
    optimizer = torch.optim.SGD(model.parameters(), lr=PEAK, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK, total_steps=EPOCHS * steps)
    g = torch.Generator().manual_seed(0)
    begin = time.monotonic()
    for epoch in range(EPOCHS):
        size = SMALL if epoch < SMALL_EPOCHS else 32
        for rows in torch.randperm(len(images), generator=g)[: steps * BATCH].split(BATCH):
            seen = crops(images[rows], size, g).contiguous(memory_format=torch.channels_last)
            loss = functional.cross_entropy(model(seen), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(
            f"epoch {epoch + 1}/{EPOCHS}, loss {loss.item():.3f}, {time.monotonic() - begin:.0f} s",
            flush=True,
        )
    return model.to(memory_format=torch.contiguous_format).eval()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = train(*load_images(options.data / "cifar10", "train"))
    options.weights.write_bytes(sisom.save_weights(model))
    images, labels = load_images(options.data / "cifar10", "test")
    with torch.inference_mode():
        right = torch.cat([model(part).argmax(1) for part in images.split(500)]) == labels
    print(f"test accuracy {right.float().mean():.4f}")


if __name__ == "__main__":
    main()
