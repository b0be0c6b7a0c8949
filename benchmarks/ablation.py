"""What each part of the learned half of the default is worth.

    python benchmarks/ablation.py FOLDER [--json scores.json]

FOLDER is that of ``accuracy.py``. For every pair the closed form is computed once; then the networks are
made in different ways, and their logit is scored by itself ("D-CPG alone") and as it enters the default
("in the default": with its small weight, decided at 0.5). Reference maps are read when the maps are
finished. With the embedded weights, which saw the images of these pairs (never their maps);
``leave_pairs_out.py`` has the figures for networks that did not.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from accuracy import GROUPS, Map, d_plus_ir, labelled_pairs, score
from closed_form import read_reference
from leave_pairs_out import macro

from geocd.config import Settings
from geocd.method import default, learning, losses
from geocd.method.decision import logistic_prob
from geocd.method.devices import one_thread
from geocd.method.distance import SceneDistance
from geocd.method.filters import gaussian
from geocd.raster.bands import colour_bands
from geocd.raster.pair import Chip, Pair
from geocd.scene.sample import sample_chips
from geocd.tiles.tiling import Tiling

Values = np.ndarray
#: Deviation, in pixels, of the blur that stands in for D-CPG.
BLUR = 4.0


def distance_of(features: SceneDistance, chip: Chip) -> Values:
    """Return the closed-form distance of a chip."""
    return features.distance(features.scaled(chip)).numpy()


def as_prob(distance: Values) -> Values:
    """Return the probability, as the default makes it."""
    return logistic_prob(
        np.asarray(distance, np.float32), learning.DECISION, learning.SLOPE_BELOW, learning.SLOPE_ABOVE
    )


def logit_of(prob: Values) -> Values:
    """Return the logit, within the range that the networks' one is clipped to."""
    p = np.clip(prob, 1e-6, 1 - 1e-6)
    return np.clip(np.log(p / (1 - p)), -default.LOGIT_RANGE, default.LOGIT_RANGE)


@contextlib.contextmanager
def same_light() -> Iterator[None]:
    """Leave out the jitter of light, and with it the consistency."""
    with (
        mock.patch.object(losses, "radiometric_jitter", lambda x, generator, **how: x),
        mock.patch.object(learning, "CONSISTENCY_WEIGHT", 0.0),
    ):
        yield


@dataclasses.dataclass(frozen=True)
class Scene:
    """One pair: its closed form, and what networks are fitted to."""

    pair: Pair
    chip: Chip
    inputs: list[learning.NetworkInput]
    features: SceneDistance
    distance: Values

    def logit(self, **flat: Any) -> Values:
        """Return the logit of networks under other settings."""
        settings = Settings.from_flat(flat).resolved().method
        networks = default.starting_networks(settings)
        device = torch.device("cpu")
        networks = learning.adapt(
            networks,
            self.inputs,
            iterations=settings.iterations or 0,
            learning_rate=settings.learning_rate or 0.0,
            seed=settings.seed,
            device=device,
        )
        detector = default.DefaultDetector(self.features, networks, device, settings)
        scaled = self.features.scaled(self.chip)
        inputs = learning.network_input(scaled, self.features.colour, torch.from_numpy(self.distance))
        with torch.no_grad():
            return detector.logit(inputs, self.chip, networks).numpy()

    def by_tiles(self, size: int = 256) -> Values:
        """Return the closed form fitted to every tile by itself."""
        distance = np.zeros_like(self.distance)
        for tile in Tiling(*self.chip.valid.shape, size, 0):
            chip = self.pair.read(tile.window)
            if chip.valid.any():
                fitted, _ = SceneDistance.fit(
                    [chip], colour=self.features.colour, pixel_size=self.pair.grid.pixel_size
                )
                distance[tile.window.toslices()] = distance_of(fitted, chip)
        return distance


def without(name: str, value: float) -> Callable[[], Any]:
    """Return a context in which a constant of the loss has another value."""
    return lambda: mock.patch.object(learning, name, value)


#: Row: the settings of the networks, and a context to make them in.
NETWORKS: dict[str, tuple[dict[str, Any], Callable[[], Any]]] = {
    "default: pretrained, 40 steps on the pair": ({}, contextlib.nullcontext),
    "pretrained, no step on the pair": ({"iterations": 0}, contextlib.nullcontext),
    "random start, 40 steps on the pair": ({"weights": "random"}, contextlib.nullcontext),
    "without similarity and dissimilarity": ({}, without("SIMILARITY_WEIGHT", 0.0)),
    "without jitter and consistency": ({}, same_light),
    "and 10 steps on every tile (--fit tile)": ({"fit": "tile"}, contextlib.nullcontext),
}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path, help="write all scores here")
    options = parser.parse_args()
    alone: dict[str, dict[str, dict[str, float]]] = {}
    inside: dict[str, dict[str, dict[str, float]]] = {}
    for folder in labelled_pairs(options.folder):
        with one_thread(), Pair(folder / "before.tif", folder / "after.tif") as pair:
            chip, sample = pair.read(pair.grid.window), sample_chips(pair)
            colour = colour_bands(pair.band_names)
            features, samples = SceneDistance.fit(sample, colour=colour, pixel_size=pair.grid.pixel_size)
            inputs = [
                learning.network_input(scaled, colour, distance)
                for scaled, distance in samples
                if scaled.valid.any()
            ]
            scene = Scene(pair, chip, inputs, features, distance_of(features, chip))
            logits: dict[str, Values | None] = {"closed form alone": None}
            for row, (flat, context) in NETWORKS.items():
                with context():
                    logits[row] = scene.logit(**flat)
            blurred = torch.from_numpy(logit_of(as_prob(scene.distance)))
            logits["a blur in place of D-CPG"] = gaussian(blurred, BLUR, torch.from_numpy(chip.valid)).numpy()
            by_tiles = as_prob(scene.by_tiles())
        reference = read_reference(folder)

        def scored(prob: Values, decision: float, chip: Chip = chip, truth: Values = reference) -> Any:
            result: Map = np.where(chip.valid, prob, np.float32(np.nan)), decision
            return score(result, truth)

        for row, logit in logits.items():
            moved = scene.distance
            if logit is not None:
                alone.setdefault(row, {})[folder.name] = scored(1 / (1 + np.exp(-logit)), 0.5)
                moved = scene.distance + np.float32(default.LEARNED_WEIGHT) * logit
            inside.setdefault(row, {})[folder.name] = scored(as_prob(moved), 0.5)
        inside.setdefault("closed form fitted to tiles of 256 px", {})[folder.name] = scored(by_tiles, 0.5)
        inside.setdefault("d + ir", {})[folder.name] = scored(*d_plus_ir(folder))
        print(folder.name, flush=True)
    for group in ("Sentinel-2", "aerial"):
        print(f"\n| {group} | AUC / AP / own F1 / best F1 | D-CPG alone, AUC / AP |\n|---|---|---|")
        for row, scores in inside.items():
            mean = macro(scores, GROUPS[group])
            own = macro(alone[row], GROUPS[group]) if row in alone else None
            print(
                f"| {row} | "
                + " / ".join(f"{mean[key]:.3f}" for key in ("auc", "average_precision", "f1", "best_f1"))
                + (f" | {own['auc']:.3f} / {own['average_precision']:.3f} |" if own else " | |")
            )
    if options.json:
        options.json.write_text(json.dumps({"inside": inside, "alone": alone}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
