"""The options of geocd that the dialogs offer. Knows nothing of QGIS.

QGIS's Python cannot import geocd, so names, choices and defaults stand here again; a test compares them with
geocd's own. What is not here goes into "Further options".
"""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Option:
    """One option of a command, and one parameter of its algorithm.

    Attributes
    ----------
    name : str
        As geocd calls the setting; the parameter has it in capitals.
    kind : str
        ``choice`` (one of), ``choices`` (some of), ``number``, ``whole``, ``text``, ``flag`` or ``raster``.
    label, help : str
        What the dialog shows.
    default : object
        geocd's own; None: not said.
    choices : tuple of str
    least, most : float, optional
    advanced : bool
        Whether the dialog folds it away.
    """

    name: str
    kind: str
    label: str
    help: str = ""
    default: Any = None
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    advanced: bool = False

    @property
    def parameter(self) -> str:
        """Return the name of the algorithm's parameter."""
        return self.name.upper()

    @property
    def flag(self) -> str:
        """Return the option on the command line."""
        return "--" + self.name.replace("_", "-")


BIDX = Option("bidx", "text", "Bands to compare", "From 1: 1,2,3 or 1..3. Empty: all but alpha.")
NODATA = Option(
    "nodata",
    "text",
    "Nodata value",
    "A number or nan, of both rasters, instead of what they declare.",
    advanced=True,
)
VALID = Option(
    "valid",
    "raster",
    "Raster of what may be used",
    "Non-zero where the pair may be used (a cloud mask, say); on the same grid.",
    advanced=True,
)
ALIGN = Option(
    "align",
    "choice",
    "Align",
    "none: refuse two rasters that are not on one grid; grid: warp the after image onto the grid of the "
    "before image while reading; shift: also remove the shift between the two, if it can be measured.",
    default="none",
    choices=("none", "grid", "shift"),
)
MIN_AREA = Option(
    "min_area",
    "number",
    "Smallest polygon (m²)",
    "Smaller ones are left out.",
    default=0.0,
    least=0.0,
)
OUTLINES = (
    Option(
        "fill_holes",
        "number",
        "Fill holes smaller than (m²)",
        "Unless another polygon lies in them.",
        default=0.0,
        least=0.0,
    ),
    Option(
        "simplify",
        "number",
        "Simplify outlines (m)",
        "Corners that stand out by less than about so many metres are left out; polygons stay valid.",
        default=0.0,
        least=0.0,
    ),
    Option(
        "smooth",
        "whole",
        "Round outlines (times)",
        "Corners are cut so many times.",
        default=0,
        least=0,
        most=5,
    ),
)

DETECT = (
    Option(
        "method",
        "choice",
        "Method",
        "deep: metric learning on the pair; cva, irmad: two classical methods, to compare with.",
        default="deep",
        choices=("deep", "cva", "irmad"),
    ),
    Option(
        "preset",
        "choice",
        "Preset of the method deep",
        "default: fast; reference: the published method, hours per megapixel without a GPU.",
        default="default",
        choices=("default", "reference"),
    ),
    Option(
        "threshold",
        "number",
        "Threshold",
        "Probability from which a pixel is changed. Not set: 0.5, where the method itself decides.",
        least=0.0,
        most=1.0,
    ),
    MIN_AREA,
    ALIGN,
    BIDX,
    Option(
        "ignore",
        "choices",
        "Leave out",
        "Water or vegetation in both dates, cloud in either, by simple rules on the bands' names; the values "
        "must be proportional to reflectance.",
        default=(),
        choices=("water", "cloud", "vegetation"),
    ),
    NODATA,
    VALID,
    *(dataclasses.replace(option, advanced=True) for option in OUTLINES),
    Option(
        "uncertainty",
        "flag",
        "Add a band that says where the evidence disagrees",
        default=False,
        advanced=True,
    ),
    Option(
        "fit",
        "choice",
        "Where the networks learn",
        "scene: once; tile: on every tile. Not set: as the preset says.",
        choices=("scene", "tile"),
        advanced=True,
    ),
    Option(
        "iterations",
        "whole",
        "Optimisation steps",
        "0: none, which saves seconds. Not set: as the preset says.",
        least=0,
        advanced=True,
    ),
    Option("tile_size", "whole", "Tile size (px)", "Not set: as the preset says.", least=1, advanced=True),
    Option("jobs", "whole", "Tiles computed at a time", least=1, advanced=True),
    Option(
        "mem_limit",
        "whole",
        "Memory limit (MB)",
        "Fewer tiles at a time, then smaller ones, keep to it.",
        least=1,
        advanced=True,
    ),
    Option(
        "device",
        "text",
        "Where to compute",
        "auto, cpu, cuda (every GPU), cuda:1, mps.",
        default="auto",
        advanced=True,
    ),
    Option(
        "resume",
        "flag",
        "Go on with a cancelled run of the same outputs",
        "Uses the tiles that it had finished; inputs and options must be the same.",
        default=False,
        advanced=True,
    ),
)

CHECK = (ALIGN, BIDX, NODATA, VALID)

POLYGONIZE = (
    Option(
        "threshold",
        "number",
        "Threshold",
        "Probability from which a pixel is changed. Not set: that of the run.",
        least=0.0,
        most=1.0,
    ),
    MIN_AREA,
    *OUTLINES,
    Option(
        "no_bands",
        "flag",
        "Leave out the columns of bands and indices",
        "The images are not read then.",
        default=False,
        advanced=True,
    ),
)
