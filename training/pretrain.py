"""Make the weights that come with geocd: both networks of the default preset, learned without labels.

    python training/pretrain.py FOLDER geocd/data/compact.safetensors [--leave-out NAME,...]

FOLDER holds one folder per pair with before and after rasters (any format, one grid). Reference maps that
lie beside them are never opened. On each pair the closed-form distance is fitted; the networks learn, by
the similarity-dissimilarity loss that also adapts them to a new pair, to tell from the two images alone
what the distances of all pairs say. Minutes on two CPU cores; the same seed and data give the same weights
on one machine.

The shipped weights: seed 0, 400 iterations, the twelve pairs of OSCD (Beirut, Cupertino, Las Vegas, Rennes,
Mumbai, Nantes, Pisa), SZTAKI AirChange (Szada 2 and 5, Tiszadob 1 and 5) and Taizhou.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from geocd.method.devices import one_thread
from geocd.method.distance import SceneDistance
from geocd.method.learning import NetworkInput, learn, network_input, seeded
from geocd.method.networks import CompactPair, initialise
from geocd.raster.bands import colour_bands
from geocd.raster.pair import Pair
from geocd.scene.sample import sample_chips


def pairs(folder: Path, left_out: set[str]) -> list[tuple[Path, Path]]:
    """Return before and after of every pair in a folder, but for those left out."""
    paths = []
    for before in sorted(folder.glob("*/before.*")):
        after = before.with_name("after" + before.suffix)
        if before.parent.name not in left_out and after.exists():
            paths.append((before, after))
    return paths


def inputs_of(before: Path, after: Path) -> list[NetworkInput]:
    """Fit the closed-form distance to a pair and return its sample."""
    with Pair(before, after) as pair:
        features, sample = SceneDistance.fit(
            sample_chips(pair), colour=colour_bands(pair.band_names), pixel_size=pair.grid.pixel_size
        )
    return [network_input(scaled, features.colour, distance) for scaled, distance in sample]


def main() -> None:
    """Pretrain and write the weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--leave-out", default="", help="comma-separated names of folders")
    parser.add_argument("--iterations", type=int, default=400)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    begin = time.perf_counter()
    with one_thread():
        # every pair counts the same, whatever its size: a batch draws the pair first
        samples = [
            inputs_of(before, after)
            for before, after in pairs(options.folder, set(options.leave_out.split(",")))
        ]
        print(f"{len(samples)} pairs, {time.perf_counter() - begin:.0f} s", flush=True)
        most = max(map(len, samples))
        inputs = [chips[k % len(chips)] for chips in samples for k in range(most)]
        networks = CompactPair()
        initialise(networks, seeded(options.seed, 0, 0))

        def tell(iteration: int, value: float) -> None:
            if iteration % 50 == 0:
                print(f"{iteration:5d}  {value:.4f}  {time.perf_counter() - begin:.0f} s", flush=True)

        learn(
            networks,
            inputs,
            iterations=options.iterations,
            learning_rate=options.learning_rate,
            seed=options.seed,
            device=torch.device("cpu"),
            on_step=tell,
        )
    save_file({k: v.contiguous() for k, v in networks.state_dict().items()}, options.weights)


if __name__ == "__main__":
    main()
