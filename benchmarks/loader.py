"""Samples per second of shuffled access to a LeRobot v3.0 set: ours, lerobot's own and the bare decoder.

Run: python benchmarks/loader.py --lerobot-python lerobot/bin/python [--workers 0 2] [--rounds 10] ...

The interpreter is that of an environment of its own, for lerobot pins an older torch:
    python3.11 -m venv lerobot
    lerobot/bin/pip install lerobot==0.4.4 torch==2.9.1 torchvision==0.24.1 torchcodec==0.9.1

The first run has lerobot write a set with its default codec and settings (200 episodes, two cameras of 96x96; ten
minutes). A sample is one current frame of both cameras and the 16 actions that follow. Four take turns on the same
frames in the same order, that of our mixture, with the same number of worker processes and torchcodec as decoder:

    lerobot   LeRobotDataset in its own interpreter, in a DataLoader
    decoder   torchcodec alone: per batch and camera one call for the frames, nothing else, nothing handed over
    ours      ResumableLoader over a Mixture of that set, as in training, up to the collation of the pictures
    cached    ours, with the frames kept by CachedSource beforehand

A round is the same epoch for each of the four, and gives one ratio of times; their median counts, so a busy machine
hurts all alike. The last line of the output is JSON. `lerobot_ratio`: how many times lerobot's rate ours is;
`decoder_ratio`: the share of the bare decoder's rate that ours reaches; `cache_ratio`: cached against lerobot.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate
from torchcodec.decoders import VideoDecoder

from record import median_interval, provenance, write_results
from vla_kit.data.frame_cache import CachedSource
from vla_kit.data.lazy_parts import Part
from vla_kit.data.mixture import Mixture
from vla_kit.data.order import MixtureOrder
from vla_kit.data.readers.lerobot import open_lerobot
from vla_kit.data.resumable_loader import ResumableLoader
from vla_kit.data.robot_reader import RobotReader
from vla_kit.data.sample import Sample
from vla_kit.data.windows import ChunkDataset

GOALS = {"lerobot_ratio": 3.0, "decoder_ratio": 0.8, "cache_ratio": 10.0}
RATIOS = {
    "lerobot_ratio": ("lerobot", "ours"),
    "decoder_ratio": ("decoder", "ours"),
    "cache_ratio": ("lerobot", "cached"),
}
VIEWS = {"front": "observation.images.front", "wrist": "observation.images.wrist"}
HORIZON = 16

WRITE = """
import sys
import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset

root, episodes, size, cameras = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
features = {
    "action": {"dtype": "float32", "shape": (7,), "names": ["x", "y", "z", "roll", "pitch", "yaw", "gripper"]},
    "observation.state": {"dtype": "float32", "shape": (8,), "names": [f"joint_{joint}" for joint in range(8)]},
    **{key: {"dtype": "video", "shape": (size, size, 3), "names": ["height", "width", "channels"]} for key in cameras},
}
dataset = LeRobotDataset.create("local/loader", fps=20, features=features, root=root, robot_type="toy")
rng = np.random.default_rng(0)
wave = np.fft.fftfreq(2 * size)
falloff = 1 / np.maximum(np.hypot(wave[:, None], wave[None]), 1 / (2 * size)) ** 1.2


def texture():  # pictures whose spectrum falls off as that of photographs
    spectrum = falloff[..., None] * np.fft.fft2(rng.normal(size=(2 * size, 2 * size, 3)), axes=(0, 1))
    picture = np.fft.ifft2(spectrum, axes=(0, 1)).real
    return 128 + 45 * (picture - picture.mean()) / picture.std()


for episode in range(episodes):
    length = int(rng.integers(60, 101))
    steps = np.linspace(0, 2 * np.pi, length)[:, None]
    phase, speed = rng.uniform(0, 6.28, size=(2, 15)), rng.uniform(0.5, 2, size=15)
    motion = (np.sin(speed * steps + phase[0]) + 0.01 * rng.normal(size=(length, 15))).astype(np.float32)
    scenes, hands = [texture() for _ in cameras], [texture() for _ in cameras]
    for step in range(length):
        frame = {"action": motion[step, :7], "observation.state": motion[step, 7:], "task": f"task {episode % 10}"}
        for place, key in enumerate(cameras):
            shift = (place * size / 4 * (1 + motion[step, 2 * place : 2 * place + 2])).astype(int)
            picture = np.roll(scenes[place], shift, axis=(0, 1))[:size, :size].copy()
            top, left = ((size - size // 3) * (1 + np.clip(motion[step, 4:6], -1, 1)) / 2).astype(int)
            picture[top : top + size // 3, left : left + size // 3] = hands[place][: size // 3, : size // 3]
            frame[key] = np.clip(picture + 2 * rng.normal(size=picture.shape), 0, 255).astype(np.uint8)
        dataset.add_frame(frame)
    dataset.save_episode()
dataset.finalize()
"""

READ = """
import json, sys, time
import numpy as np
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset

root, horizon, batch, workers = sys.argv[1], *map(int, sys.argv[2:])
torch.set_num_threads(1)
fps = LeRobotDataset("local/loader", root=root).fps
ahead = {"action": [step / fps for step in range(horizon)]}
dataset = LeRobotDataset("local/loader", root=root, delta_timestamps=ahead, video_backend="torchcodec")


class Order(torch.utils.data.Sampler):
    items = ()

    def __iter__(self):
        return iter(self.items)

    def __len__(self):
        return len(self.items)


order = Order()
loader = torch.utils.data.DataLoader(
    dataset, batch_size=batch, sampler=order, num_workers=workers, persistent_workers=workers > 0
)
for line in sys.stdin:
    request = json.loads(line)
    if request is None:
        break
    order.items = request["items"]
    start, batches = time.perf_counter(), []
    for read in loader:
        if "save" in request:
            batches.append(read)
    answer = {"seconds": time.perf_counter() - start}
    if "save" in request:
        keys = [key for key, value in batches[0].items() if torch.is_tensor(value)]
        np.savez(request["save"], task=sum((read["task"] for read in batches), []),
                 **{key: torch.cat([read[key] for read in batches]).numpy() for key in keys})
    print("@" + json.dumps(answer), flush=True)
"""


def main() -> None:
    """Write the set where there is none, measure, check that all read the same, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lerobot-python", default=os.environ.get("VLA_KIT_LEROBOT_PYTHON"))
    parser.add_argument("--folder", type=Path, default=Path("outputs/benchmarks"), help="keeps the set and the frames")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2], help="the first gives the ratios that count")
    for name, default in (("episodes", 200), ("size", 96), ("batch", 32), ("batches", 32), ("rounds", 10)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--results", type=Path, help="file of docs/results to write the figures to")
    settings = parser.parse_args()
    if settings.lerobot_python is None:
        parser.error("--lerobot-python must name the interpreter of an environment with lerobot==0.4.4")
    torch.set_num_threads(1)
    root = written_set(settings)
    rows: list[dict[str, Any]] = []
    for workers in sorted(settings.workers, reverse=True):  # so that workers are forked before decoders are open here
        rows += measure(root, workers, settings)
    rows.sort(key=lambda row: settings.workers.index(row["workers"]))
    for row in rows:
        print(
            f"{row['ratio']} with {row['workers']} workers: {row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}], "
            f"{row['to']} {row['to_rate']:.0f} against {row['of']} {row['of_rate']:.0f} samples/s"
        )
    figures = {row["ratio"]: round(row["value"], 3) for row in rows if row["workers"] == settings.workers[0]}
    if settings.results:
        write_results(settings.results, figures | {"comparisons": rows} | provenance())
    print(json.dumps({"name": "loader", "ratio": figures["lerobot_ratio"], "goal": GOALS["lerobot_ratio"], **figures}))


def written_set(settings: argparse.Namespace) -> Path:
    """The set that lerobot writes once."""
    root = (settings.folder / f"lerobot-{settings.episodes}x{settings.size}").absolute()
    if not root.exists():
        print(f"lerobot writes {settings.episodes} episodes to {root}", flush=True)
        unfinished = root.with_name(f"{root.name}.partial")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.parent.mkdir(parents=True, exist_ok=True)
        arguments = [unfinished, settings.episodes, settings.size, *VIEWS.values()]
        with (settings.folder / "write.log").open("w") as log:
            subprocess.run(
                [settings.lerobot_python, "-c", WRITE, *map(str, arguments)],
                env=lerobot_environment(settings),
                stdout=log,
                stderr=log,
                check=True,
            )
        unfinished.rename(root)
    return root


def lerobot_environment(settings: argparse.Namespace) -> dict[str, str]:
    """Settings of the other interpreter: no network, no files outside of the folder."""
    return {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": "", "HF_HOME": str(settings.folder.absolute() / "hf")}


def measure(root: Path, workers: int, settings: argparse.Namespace) -> list[dict[str, Any]]:
    """Let the four take turns; one row per ratio."""
    source = open_lerobot(root)
    cache = settings.folder / "frames"
    fill(CachedSource(source, cache))
    order = MixtureOrder([int(source.lengths.sum())], [1.0], seed=0)
    samples = settings.batch * settings.batches
    lerobot = LeRobot(root, workers, settings)
    decoder = Decoder(root, workers, settings)
    ours, cached = (our_loader(root, folder, workers, settings) for folder in (None, cache))
    seconds: dict[str, list[float]] = {name: [] for name in ("lerobot", "decoder", "ours", "cached")}
    try:
        for turn in track(range(settings.rounds + 1), description=f"{workers} workers"):
            items = order.at(np.arange(turn * samples, (turn + 1) * samples))[1].tolist()
            epochs = {
                "lerobot": lambda items=items: lerobot.epoch(items),
                "decoder": lambda items=items: decoder.epoch(items),
                "ours": lambda: timed(ours),
                "cached": lambda: timed(cached),
            }
            first = turn % len(epochs)
            for name in (*list(epochs)[first:], *list(epochs)[:first]):
                spent = epochs[name]()
                if turn:  # the first round starts the workers and opens the files
                    seconds[name].append(spent)
        if workers == min(settings.workers):
            check_equal(root, lerobot, settings)  # last, for it opens decoders in this process
    finally:
        lerobot.close()
        ours.close()
        cached.close()
    rate = {name: samples / statistics.median(spent) for name, spent in seconds.items()}
    return [
        {
            "ratio": ratio,
            "workers": workers,
            **median_interval([slow / fast for slow, fast in zip(seconds[of], seconds[to], strict=True)]),
            "goal": GOALS[ratio],
            "of": of,
            "of_rate": rate[of],
            "to": to,
            "to_rate": rate[to],
        }
        for ratio, (of, to) in RATIOS.items()
    ]


def fill(source: CachedSource) -> None:
    """Keep every frame and read it once, so that it lies in the memory of the operating system."""
    start = time.perf_counter()
    for episode in track(range(len(source.lengths)), description="fill the cache"):
        for key in VIEWS.values():
            source.images(episode, key, range(int(source.lengths[episode])))
    print(f"every frame kept and read after {time.perf_counter() - start:.1f} s")


def timed(loader: ResumableLoader) -> float:
    """Seconds of one epoch."""
    start = time.perf_counter()
    for _ in loader:
        pass
    return time.perf_counter() - start


def our_loader(root: Path, cache: Path | None, workers: int, settings: argparse.Namespace) -> ResumableLoader:
    """Our loader as training uses it; the pictures are stacked as uint8, for `Collate` needs a model."""
    reader = open_reader(root, None)
    part = Part(
        name=reader.name,
        dataset=reader.name,
        location=reader.location,
        fingerprint=reader.fingerprint,
        embodiment=reader.embodiment,
        length=int(reader.num_steps.sum()),
        open=partial(open_reader, root, cache),
        windows=partial(ChunkDataset, horizon=HORIZON),
    )
    return ResumableLoader(
        Mixture([part], seed=0),
        collate=stack,
        batch_size=settings.batch,
        num_batches=settings.batches,
        num_workers=workers,
    )


def open_reader(root: Path, cache: Path | None) -> RobotReader:
    """The set as a robot's, with or without kept frames."""
    source: Any = open_lerobot(root)
    if cache is not None:
        source = CachedSource(source, cache)
    return RobotReader(source, embodiment="toy", views=VIEWS)


def stack(samples: Sequence[Sample]) -> dict[str, Any]:
    """torch's default collation, as for lerobot's items; pictures keep the decoder's layout, colours last."""
    views = {tag: default_collate([sample.views[tag].permute(1, 2, 0) for sample in samples]) for tag in VIEWS}
    return {
        **{tag: pictures.permute(0, 3, 1, 2) for tag, pictures in views.items()},
        "actions": default_collate([sample.actions for sample in samples]),
        "valid": default_collate([sample.valid for sample in samples]),
        "instruction": [sample.instruction for sample in samples],
    }


class LeRobot:
    """lerobot's loader in its own interpreter, which is asked for one epoch at a time."""

    def __init__(self, root: Path, workers: int, settings: argparse.Namespace) -> None:
        arguments = [str(root), str(HORIZON), str(settings.batch), str(workers)]
        self._process = subprocess.Popen(
            [settings.lerobot_python, "-c", READ, *arguments],
            env=lerobot_environment(settings),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if not sys.stderr.isatty() else None,
            text=True,
        )

    def epoch(self, items: Sequence[int], *, save: Path | None = None) -> float:
        """Seconds that it takes to load some items in this order."""
        request = {"items": list(items)} | ({} if save is None else {"save": str(save)})
        print(json.dumps(request), file=self._process.stdin, flush=True)
        for line in self._process.stdout:
            if line.startswith("@"):
                return json.loads(line[1:])["seconds"]
        raise RuntimeError(f"lerobot stopped with status {self._process.wait()}")

    def close(self) -> None:
        """End the interpreter; the end of its input would not, for our workers were forked with the pipe open."""
        print("null", file=self._process.stdin, flush=True)
        self._process.wait()


class Items(Sampler[Sequence[int]]):
    """Batches of items, to be changed between epochs."""

    batches: Sequence[Sequence[int]] = ()

    def __iter__(self) -> Iterator[Sequence[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class Decoder:
    """The bare decoder."""

    def __init__(self, root: Path, workers: int, settings: argparse.Namespace) -> None:
        self._batch = settings.batch
        self._items = Items()
        self._loader = DataLoader(
            Frames(root),
            batch_size=None,
            sampler=self._items,
            collate_fn=int,
            num_workers=workers,
            persistent_workers=workers > 0,
        )

    def epoch(self, items: Sequence[int]) -> float:
        """Seconds that it takes to decode the frames of some items."""
        self._items.batches = [items[start : start + self._batch] for start in range(0, len(items), self._batch)]
        start = time.perf_counter()
        for _ in self._loader:
            pass
        return time.perf_counter() - start


class Frames(Dataset[int]):
    """Decodes frames of a set whose videos are one file per camera, and says how many."""

    def __init__(self, root: Path) -> None:
        videos = {key: sorted((root / "videos" / key).rglob("*.mp4")) for key in VIEWS.values()}
        if any(len(paths) != 1 for paths in videos.values()):
            raise SystemExit(f"{root} must hold one video per camera. Choose fewer --episodes or a smaller --size.")
        self._paths = [paths[0] for paths in videos.values()]
        self._decoders: list[VideoDecoder] = []

    def __getitem__(self, items: Sequence[int]) -> int:
        if not self._decoders:
            self._decoders = [VideoDecoder(str(path), num_ffmpeg_threads=1) for path in self._paths]
        return sum(len(decoder.get_frames_at(list(items)).data) for decoder in self._decoders)


def check_equal(root: Path, lerobot: LeRobot, settings: argparse.Namespace) -> None:
    """Stop unless lerobot, ours and cached give the same pixels, actions and words."""
    cache = settings.folder / "frames"
    plain, kept = (ChunkDataset(open_reader(root, folder), horizon=HORIZON) for folder in (None, cache))
    chosen = np.random.default_rng(0).integers(len(plain), size=4 * settings.batch).tolist()
    with tempfile.TemporaryDirectory() as folder:
        lerobot.epoch(chosen, save=Path(folder) / "theirs.npz")
        theirs = np.load(Path(folder) / "theirs.npz")
        for row, item in enumerate(chosen):
            for sample in (plain[item], kept[item]):
                valid = sample.valid.numpy()
                same = [
                    (sample.episode, sample.frame) == (theirs["episode_index"][row], theirs["frame_index"][row]),
                    sample.instruction == theirs["task"][row],
                    np.array_equal(valid, ~theirs["action_is_pad"][row]),
                    np.array_equal(sample.actions.numpy()[valid], theirs["action"][row][valid]),
                    *(
                        np.array_equal(sample.views[tag].numpy(), np.rint(theirs[key][row] * 255))
                        for tag, key in VIEWS.items()
                    ),
                ]
                if not all(same):
                    raise SystemExit(f"item {item} must be the same for lerobot and ours, got {same}.")
    print(f"{len(chosen)} samples are equal to the last bit")


if __name__ == "__main__":
    main()
