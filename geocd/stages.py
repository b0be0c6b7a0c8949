"""The settings of each stage of a run, once: type, default, unit and help, checked when they are made."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from geocd.coercion import require, require_choice
from geocd.errors import ConfigError
from geocd.location import Location
from geocd.presets import PRESETS, Fit, Preset

Method = Literal["deep", "cva", "irmad"]
#: any: every change; built: a prior on the cover prefers buildings, roads and bare ground.
Focus = Literal["any", "built"]
#: image: bands are what a sensor measured; embedding: they are the dimensions of features made elsewhere.
Kind = Literal["image", "embedding"]
#: none: both on one grid; grid: after is warped onto before's grid; shift: and a measured shift is removed.
Align = Literal["none", "grid", "shift"]
#: A nodata value; none: only what the rasters declare.
Nodata = float | Literal["none"]
#: What ``--ignore`` knows; :mod:`geocd.scene.ignore` has a rule for each.
Ignorable = Literal["water", "cloud", "vegetation"]
#: auto: the network where it is installed and suits the pair, else the simple rule.
CloudChoice = Literal["auto", "network", "rule"]
#: In a list of masks, an image without one.
NO_MASK = "none"
#: What quality masks can leave out.
MaskClass = Literal["cloud", "shadow", "snow"]


#: Probability from which a pixel is changed. Every method puts its own decision here; only ``--threshold``
#: moves it.
DECISION = 0.5


def setting(
    default: object, help: str, *, metavar: str | None = None, short: str | None = None, path: bool = False
) -> Any:
    """Declare one setting: its default and the sentence that explains it everywhere.

    ``path`` says that its value may be a path or URL.
    """
    metadata = {"help": help, "metavar": metavar, "short": short, "path": path}
    return dataclasses.field(default=default, metadata=metadata)


def numbered(**dates: Sequence[str]) -> dict[str, str]:
    """Return paths of lists by the name of their list and their number, from 1; masks without ``NO_MASK``."""
    return {
        f"{name} {n}": path
        for name, paths in dates.items()
        for n, path in enumerate(paths, 1)
        if path != NO_MASK or not name.startswith("mask_")
    }


def check_tile_size(tile_size: int, overlap: int) -> None:
    """Raise :class:`ConfigError` unless ``0 <= overlap < tile_size``."""
    if tile_size < 1 or overlap < 0 or overlap >= tile_size:
        raise ConfigError(
            f"the overlap ({overlap} px) must be at least 0 and smaller than the tile size "
            f"({tile_size} px). Choose a larger --tile-size or a smaller --overlap.",
            tile_size=tile_size,
            overlap=overlap,
        )


def check_masks(name: str, images: Sequence[str], masks: Sequence[str]) -> None:
    """Raise :class:`ConfigError` unless there is a mask for each image of a list, or none at all."""
    if masks and len(masks) != len(images):
        raise ConfigError(
            f"--mask-{name}: names {len(masks)} masks, and --{name} {len(images)} images. Name one for each "
            f"image, in their order; {NO_MASK} for an image without one.",
            name=f"mask_{name}",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadSettings:
    """What is read from the two rasters."""

    bidx: tuple[int | str, ...] | None = setting(
        None,
        "Bands to compare, by number from 1 (1,2,3 or 1..3) or by name (red,green,nir), looked up in each "
        "file. Default: all bands but alpha, matched by name where both files name theirs.",
        metavar="BANDS",
        short="b",
    )
    nodata: Nodata | None = setting(
        None,
        "Nodata value of both rasters, overriding the values that they declare; none: only what they "
        "declare. Default: what they declare, and the value of an undeclared rim at the border.",
        metavar="NUMBER|nan|none",
    )
    align: Align = setting(
        "none",
        "none: refuse rasters that are not on the same grid; grid: warp AFTER onto the grid of BEFORE while "
        "reading; shift: also remove the shift between the two images, if it can be measured (one for the "
        "whole scene).",
    )
    valid: str | None = setting(
        None,
        "Raster on the same grid, 0 where the pair may not be used and one other value where it may (the "
        "inverse of a cloud mask).",
        metavar="RASTER",
        path=True,
    )
    aoi: str | None = setting(
        None,
        "Area to look at: a vector file with polygons; or 'left bottom right top' or WKT, in the CRS of "
        "BEFORE or with its own (SRID=4326;POLYGON ...). Nothing else is read; results are on its pixels.",
        metavar="AREA",
        path=True,
    )
    mask_before: str | None = setting(
        None,
        "Quality mask of BEFORE, as it comes with the product, of any resolution: what it calls cloud, "
        "shadow or snow is left out.",
        metavar="RASTER",
        path=True,
    )
    mask_after: str | None = setting(None, "The same of AFTER.", metavar="RASTER", path=True)
    mask_kind: str = setting(
        "auto",
        "Kind of the masks: auto (by name, or by values that leave no doubt), scl (Sentinel-2), qa_pixel "
        "(Landsat), fmask (HLS), udm, udm2 (Planet), cloud or clear (0 and one other value), probability or "
        "probability:PERCENT (of cloud; 40 and more), values:4,5,6 (of usable pixels).",
        metavar="KIND",
    )
    mask_classes: tuple[MaskClass, ...] = setting(
        ("cloud", "shadow", "snow"),
        "What the masks leave out: one or more of cloud,shadow,snow. What they call unusable always is.",
        metavar="CLASSES",
    )
    mask_buffer: float = setting(
        0.0, "Leave out as many metres around it, as masks miss the edges of clouds.", metavar="METRES"
    )
    features_before: str | None = setting(
        None,
        "Raster of features of BEFORE that were made elsewhere (a yearly embedding, the output of a "
        "foundation model), of any resolution: one more distance of the default method. Needs "
        "--features-after.",
        metavar="RASTER",
        path=True,
    )
    features_after: str | None = setting(
        None, "The same of AFTER, by the same model.", metavar="RASTER", path=True
    )
    baseline: tuple[str, ...] = setting(
        (),
        "Images of earlier dates, before which nothing is asked about: what they show that a place does by "
        "itself, such as its seasons, is not called changed.",
        metavar="FILE...",
        path=True,
    )
    confirm: tuple[str, ...] = setting(
        (),
        "Images of later dates: polygons get the columns lasting (0: gone again, 1: still there) and "
        "last_seen.",
        metavar="FILE...",
        path=True,
    )
    mask_baseline: tuple[str, ...] = setting(
        (),
        "Quality masks of the images of --baseline, as many and in their order; none for an image without "
        "one. Kind, classes and buffer are those of --mask-before.",
        metavar="RASTER...",
        path=True,
    )
    mask_confirm: tuple[str, ...] = setting(
        (), "The same of the images of --confirm.", metavar="RASTER...", path=True
    )
    lasting_band: bool = setting(
        False, "Add a band to the probability raster: lasting, of each changed pixel. Needs --confirm."
    )
    refine: str | None = setting(
        None,
        "Verdicts on other pairs, a model that geocd refine has saved: polygons get the column relevance (0 "
        "to 1: how likely they are what the reviewer meant). Detection does not see it.",
        metavar="FILE",
        path=True,
    )
    ignore: tuple[Ignorable, ...] = setting(
        (),
        "Leave out pixels that are water or vegetation in both dates, or cloud in either: one or more of "
        "water,cloud,vegetation. Uses simple rules that need named bands and values proportional to "
        "reflectance.",
        metavar="KINDS",
    )
    cloud_detector: CloudChoice = setting(
        "auto",
        "What --ignore cloud goes by. network: ukis-csmask (geocd[clouds]), which sees shadow, too; rule: "
        "bright and white; auto: the network where it is installed and suits the pair, else the rule.",
    )

    @property
    def other_dates(self) -> dict[str, str]:
        """The paths of all other dates, by what records call them: ``baseline 1``, ``confirm 2``."""
        return numbered(baseline=self.baseline, confirm=self.confirm)

    @property
    def other_masks(self) -> dict[str, str]:
        """The paths of their masks, as far as there are any: ``mask_baseline 1``, ``mask_confirm 2``."""
        return numbered(mask_baseline=self.mask_baseline, mask_confirm=self.mask_confirm)

    def check_lasting_band(self) -> None:
        """Raise :class:`ConfigError` where the band of later dates is asked for, and there are none."""
        if self.lasting_band and not self.confirm:
            raise ConfigError(
                "--lasting-band: there are no later dates that could say what lasts. Name them with "
                "--confirm, or leave it out.",
                name="lasting_band",
            )

    def __post_init__(self) -> None:
        require_choice("align", self.align, get_args(Align))
        require_choice("cloud_detector", self.cloud_detector, get_args(CloudChoice))
        for missing, other in (("before", "after"), ("after", "before")):
            if getattr(self, f"features_{missing}") is None and (path := getattr(self, f"features_{other}")):
                raise ConfigError(
                    f"--features-{other} {Location(path).public}: there are no features of the other date to "
                    f"compare them with. Name them with --features-{missing}.",
                    name=f"features_{missing}",
                )
        for name in ("baseline", "confirm"):
            check_masks(name, getattr(self, name), getattr(self, f"mask_{name}"))
        for name, chosen, kinds in (
            ("ignore", self.ignore, get_args(Ignorable)),
            ("mask_classes", self.mask_classes, get_args(MaskClass)),
        ):
            require(
                all(kind in kinds for kind in chosen) and len(set(chosen)) == len(chosen),
                name,
                ",".join(chosen),
                f"must be some of {', '.join(kinds)}, each once.",
            )
        buffer = self.mask_buffer
        require(0 <= buffer < math.inf, "mask_buffer", buffer, "must be 0 or more (metres).")
        if self.bidx is not None:
            require(
                len(self.bidx) > 0 and all(isinstance(band, str) or band >= 1 for band in self.bidx),
                "bidx",
                ",".join(map(str, self.bidx)),
                "bands are counted from 1.",
            )
            require(
                all(any(map(str.isalpha, band)) for band in self.bidx if isinstance(band, str)),
                "bidx",
                repr(list(self.bidx)),
                "must be a list of numbers from 1, without quotes, and of names, which have letters.",
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TilingSettings:
    """How the raster is cut into tiles."""

    tile_size: int | None = setting(
        None, "Side of a tile, in pixels. Default: 512 (preset reference: 256).", metavar="PX"
    )
    overlap: int | None = setting(
        None,
        "Minimum overlap of neighbouring tiles, in pixels (blended). Default: 128 (cva and irmad: 32).",
        metavar="PX",
    )

    def __post_init__(self) -> None:
        if self.overlap is not None:
            require(self.overlap >= 0, "overlap", self.overlap, "must be 0 or more (pixels).")
        if self.tile_size is not None:
            require(self.tile_size >= 1, "tile_size", self.tile_size, "must be 1 or more (pixels).")
            if self.overlap is not None:
                check_tile_size(self.tile_size, self.overlap)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MethodSettings:
    """How change is found."""

    method: Method = setting(
        "deep",
        "deep: metric learning on the pair; cva: change vector analysis; irmad: iteratively "
        "re-weighted multivariate alteration detection.",
    )
    preset: Preset = setting(
        "default",
        "default: frozen deep features under a metric learned on the pair in closed form; reference: the "
        "published method, VGG16 and a full-resolution generator, hours per megapixel on a CPU.",
    )
    kind: Kind = setting(
        "image",
        "image: bands are what a sensor measured; embedding: they are the dimensions of features made "
        "elsewhere, and the metric learned on the pair is all there is.",
    )
    weights: str | None = setting(
        None,
        "Weights of the feature extractor: embedded (EfficientNet-Lite0 of ImageNet), imagenet (VGG16, "
        "downloaded once, preset reference), random, none (default preset: no deep distances), or a FILE "
        "(.safetensors or a torch state dict). Default: those of the preset.",
        metavar="NAME|FILE",
        path=True,
    )
    backbone: str | None = setting(
        None,
        "Another feature extractor for the deep distances of the default preset: the weights of VGG16 "
        "(features of stride 2 and 4), or a Python file with a function backbone(), which is run. Default: "
        "EfficientNet-Lite0.",
        metavar="FILE",
        path=True,
    )
    iterations: int | None = setting(
        None,
        "Optimisation steps of preset reference, 80 by default; 0 for none. The default preset has none: it "
        "learns in closed form.",
        metavar="N",
    )
    learning_rate: float | None = setting(
        None, "Learning rate of preset reference. Default: 1e-4.", metavar="RATE"
    )
    fit: Fit | None = setting(
        None,
        "scene: fit once, to a sample of the scene, so that tiles agree; tile: train the networks on every "
        "tile, preset reference only, which does so by default, as published.",
    )
    focus: Focus = setting(
        "any",
        "any: every change; built: buildings, roads and bare ground, by a prior on the cover that finds less "
        "of what is green on either date (crops, cleared forest). Needs named bands with infrared, and "
        "values proportional to reflectance.",
    )
    threshold: float | None = setting(
        None,
        "Probability from which a pixel counts as changed; auto: 0.5, the decision threshold of the methods.",
        metavar="FLOAT|auto",
    )
    uncertainty: bool = setting(
        False,
        "Add a band to the probability raster: how far the distances of the default preset disagree.",
    )
    seed: int = setting(0, "Seed of all random numbers.", metavar="N")
    device: str = setting(
        "auto", "Compute device: auto, cpu, cuda (tiles on all GPUs), cuda:1, mps.", metavar="DEVICE"
    )

    def __post_init__(self) -> None:
        require_choice("method", self.method, get_args(Method))
        require_choice("preset", self.preset, get_args(Preset))
        require_choice("focus", self.focus, get_args(Focus))
        require_choice("kind", self.kind, get_args(Kind))
        if self.fit is not None:
            require_choice("fit", self.fit, get_args(Fit))
        require(
            self.iterations is None or self.iterations >= 0,
            "iterations",
            self.iterations,
            "must be 0 or more.",
        )
        require(
            self.learning_rate is None or 0 < self.learning_rate < math.inf,
            "learning_rate",
            self.learning_rate,
            "must be a number above 0.",
        )
        require(
            self.threshold is None or 0 <= self.threshold <= 1,
            "threshold",
            self.threshold,
            "a probability lies between 0 and 1.",
        )
        self._check_default_only()
        require(0 <= self.seed < 2**63, "seed", self.seed, "must be 0 or more, below 2**63.")

    @property
    def only_one_distance(self) -> str | None:
        """The option that leaves only one distance; None with the default method and preset."""
        if self.method != "deep":
            return f"--method {self.method}"
        if self.preset == "reference":
            return "--preset reference"
        return "--kind embedding" if self.kind == "embedding" else None

    def _check_default_only(self) -> None:
        """Refuse what only the default method and preset have: several distances, and deep ones."""
        chosen = self.only_one_distance
        if chosen is None:
            require(
                self.backbone is None or self.weights in (None, PRESETS["default"].weights),
                "weights",
                self.weights,
                "a --backbone brings its own weights. Leave one of the two out.",
            )
            return
        for option, wanted in (
            ("uncertainty", self.uncertainty),
            ("focus", self.focus != "any"),
            ("backbone", self.backbone is not None),
        ):
            if wanted:
                raise ConfigError(
                    f"--{option}: needs a sum of several distances, and {chosen} has only one. Choose the "
                    "default method and preset, or leave it out.",
                    method=self.method,
                    preset=self.preset,
                )
        remedy = f"is for the default method and preset. {chosen} treats all bands alike: leave it out."
        require(self.kind == "image" or chosen == "--kind embedding", "kind", self.kind, remedy)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PolygonSettings:
    """How the polygons are made."""

    min_area: float = setting(0.0, "Leave out polygons smaller than this, in square metres.", metavar="M2")
    fill_holes: float = setting(
        0.0,
        "Fill holes smaller than this, in square metres, unless they contain another polygon.",
        metavar="M2",
    )
    simplify: float = setting(
        0.0,
        "Simplify outlines: remove vertices that stand out by less than about this many metres "
        "(Visvalingam-Whyatt, triangles below METRES squared); polygons stay valid and do not overlap.",
        metavar="METRES",
    )
    smooth: int = setting(
        0, "Smooth outlines by this many rounds of corner cutting (Chaikin), at most 5.", metavar="ROUNDS"
    )

    def __post_init__(self) -> None:
        require(0 <= self.min_area < math.inf, "min_area", self.min_area, "must be 0 or more (m2).")
        require(0 <= self.fill_holes < math.inf, "fill_holes", self.fill_holes, "must be 0 or more (m2).")
        require(0 <= self.simplify < math.inf, "simplify", self.simplify, "must be 0 or more (metres).")
        require(0 <= self.smooth <= 5, "smooth", self.smooth, "must be 0 to 5 rounds.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunTilingSettings(TilingSettings):
    """How the raster of a run is cut into tiles: decided."""

    tile_size: int = dataclasses.field()
    overlap: int = dataclasses.field()
    #: Whether tiles may be made smaller to keep to a memory limit: the user named no size.
    adjustable: bool = dataclasses.field(default=False, compare=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunMethodSettings(MethodSettings):
    """How a run finds change: decided."""

    weights: str = dataclasses.field()
    iterations: int = dataclasses.field()
    learning_rate: float = dataclasses.field()
    fit: Fit = dataclasses.field()

    @property
    def decision(self) -> float:
        """Probability from which a pixel is changed, in [0, 1]."""
        return DECISION if self.threshold is None else self.threshold


STAGES: Mapping[str, type[Any]] = {
    "read": ReadSettings,
    "tiling": TilingSettings,
    "method": MethodSettings,
    "polygons": PolygonSettings,
}


#: Settings whose values may be paths or URLs.
PATHS = frozenset(
    field.name for kind in STAGES.values() for field in dataclasses.fields(kind) if field.metadata["path"]
)
#: Those of rasters: inputs beside the two images.
RASTERS = tuple(
    field.name for field in dataclasses.fields(ReadSettings) if field.metadata["metavar"] == "RASTER"
)
#: Those that name any number of rasters: images of other dates of the place, and their masks.
OTHER_DATES = tuple(
    field.name for field in dataclasses.fields(ReadSettings) if str(field.metadata["metavar"]).endswith("...")
)
#: Those of files that belong to the two images: quality masks, and features that were made elsewhere.
COMPANIONS = tuple(
    field.name
    for field in dataclasses.fields(ReadSettings)
    if field.name.startswith(("mask_", "features_")) and field.name not in OTHER_DATES
)
