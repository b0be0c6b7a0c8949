"""The options of geocd that the dialogs offer. Knows nothing of QGIS.

QGIS's Python cannot import geocd, so choices, defaults and vector formats come from ``choices.json``, which
``make plugin`` writes from geocd's own tables. What is not here goes into "Further options".
"""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

#: What geocd declares: ``settings`` with their ``default`` and ``choices``, and the names of vector
#: ``formats`` by suffix.
CHOICES = json.loads(Path(__file__).with_name("choices.json").read_text(encoding="utf-8"))
#: Suffixes of the files that polygons can be written as; of geocd's formats, those that every QGIS opens.
VECTORS = tuple(CHOICES["formats"])


@dataclasses.dataclass(frozen=True)
class Option:
    """One option of a command, and one parameter of its algorithm.

    Attributes
    ----------
    name : str
        Of the option of geocd; the parameter has it in capitals.
    kind : str
        ``choice`` (one of), ``choices`` (some of), ``number``, ``whole`` (number), ``text``, ``flag`` or
        ``raster``.
    label, help : str
        What the dialog shows.
    default : object
        That of geocd; None: not set.
    choices : tuple of str
        The words that a ``choice`` or ``choices`` can have.
    least, most : float, optional
        Range of a number.
    advanced : bool
        Whether the dialog shows it among the advanced parameters.
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


def labelled(text: str) -> str:
    """Return a message of geocd with the labels of the dialog in the place of options.

    Options of other programs, in commands, and those that the dialog lacks stay as they are: the latter go
    into "Further options".
    """
    labels = {
        option.flag: option.label
        for option in (*SERIES, *REFINE, *SAMPLE, *ESTIMATE, *POLYGONIZE, *CHECK, *DETECT)
    }
    command = r"\b(?:rio|gdal\w+|pip) [a-z].*?(?=[;,)](?:\s|$)|\.(?:\s|$)|$)"

    def label(match: re.Match[str]) -> str:
        return f'"{labels[match[0]]}"' if match[0] in labels else match[0]

    return re.sub(rf"{command}|(?<![\w-])--[a-z][a-z-]*", label, text)


def _declared(name: str, kind: str, label: str, help: str = "", **shown: Any) -> Option:
    """Return the option of a setting, whose choices and default are those that geocd declares."""
    setting = CHOICES["settings"][name]
    default = setting["default"]
    return Option(
        name,
        kind,
        label,
        help,
        default=tuple(default) if isinstance(default, list) else default,
        choices=tuple(setting["choices"]),
        **shown,
    )


BIDX = _declared(
    "bidx",
    "text",
    "Bands to compare",
    "By number, 1,2,3 or 1..3, or by name, red,green,nir. Empty: all but alpha.",
)
NODATA = _declared(
    "nodata",
    "text",
    "Nodata value",
    "A number or nan, for both rasters, instead of what they declare. none: only what they declare. Empty: "
    "that, and the value of an undeclared rim at the border.",
    advanced=True,
)
VALID = _declared(
    "valid",
    "raster",
    "Raster of valid pixels",
    "0 where the pair may not be used, one other value where it may (the inverse of a cloud mask); on the "
    "same grid.",
    advanced=True,
)
ALIGN = _declared(
    "align",
    "choice",
    "Align",
    "none: refuse two rasters that are not on one grid; grid: warp the after image onto the grid of the "
    "before image while reading; shift: also remove the shift between the two, if it can be measured.",
)
MIN_AREA = _declared(
    "min_area", "number", "Smallest polygon (m²)", "Smaller polygons are left out.", least=0.0
)
OUTLINES = (
    _declared(
        "fill_holes",
        "number",
        "Fill holes smaller than (m²)",
        "Unless another polygon lies in them.",
        least=0.0,
    ),
    _declared(
        "simplify",
        "number",
        "Simplify outlines (m)",
        "Leaves out corners that stand out by less than about this distance; polygons stay valid.",
        least=0.0,
    ),
    _declared(
        "smooth",
        "whole",
        "Smooth outlines (rounds)",
        "Each round cuts every corner.",
        least=0,
        most=5,
    ),
)
RESUME = Option(
    "resume",
    "flag",
    "Resume a cancelled run of the same outputs",
    "Uses the tiles that it had finished; inputs and options must be the same.",
    default=False,
    advanced=True,
)

DETECT = (
    _declared(
        "method",
        "choice",
        "Method",
        "deep: metric learning on the pair; cva, irmad: two classical methods, to compare with.",
    ),
    _declared(
        "preset",
        "choice",
        "Preset of the method deep",
        "default: fast; reference: the published method, hours per megapixel without a GPU.",
    ),
    _declared(
        "threshold",
        "number",
        "Threshold",
        "Probability from which a pixel is changed. Not set: 0.5, where the method itself decides.",
        least=0.0,
        most=1.0,
    ),
    MIN_AREA,
    _declared(
        "focus",
        "choice",
        "Focus",
        "built: buildings, roads and bare ground; less of what is green on either date. Needs named bands "
        "with infrared, and reflectance.",
    ),
    ALIGN,
    BIDX,
    _declared(
        "ignore",
        "choices",
        "Ignore",
        "Water or vegetation in both dates, cloud in either, by simple rules on the bands' names; the values "
        "must be proportional to reflectance.",
    ),
    _declared(
        "cloud_detector",
        "choice",
        "Cloud detector",
        "Of cloud under Ignore. auto: the network where geocd[clouds] is installed, else the simple rule.",
        advanced=True,
    ),
    NODATA,
    VALID,
    *(dataclasses.replace(option, advanced=True) for option in OUTLINES),
    _declared(
        "uncertainty",
        "flag",
        "Add a band that shows where the evidence disagrees",
        advanced=True,
    ),
    _declared(
        "fit",
        "choice",
        "Where the networks learn",
        "Preset reference only. scene: once; tile: on every tile.",
        advanced=True,
    ),
    _declared(
        "iterations",
        "whole",
        "Optimisation steps",
        "Preset reference only; 80 if not set.",
        least=0,
        advanced=True,
    ),
    _declared("tile_size", "whole", "Tile size (px)", "Not set: as the preset says.", least=1, advanced=True),
    Option("jobs", "whole", "Tiles computed at a time", least=1, advanced=True),
    Option(
        "mem_limit",
        "whole",
        "Memory limit (MB)",
        "Met by computing fewer tiles at a time, then smaller ones.",
        least=1,
        advanced=True,
    ),
    _declared(
        "device", "text", "Where to compute", "auto, cpu, cuda (every GPU), cuda:1, mps.", advanced=True
    ),
    RESUME,
)

CHECK = (ALIGN, BIDX, NODATA, VALID)

POLYGONIZE = (
    _declared(
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
        "Omit the columns of bands and indices",
        "The images are not read then.",
        default=False,
        advanced=True,
    ),
)

SERIES = (
    *(option for option in DETECT if option.name in ("method", "min_area", "focus", "align", "bidx")),
    Option(
        "confirmations",
        "whole",
        "Later dates that confirm",
        "Each date is compared with as many later ones, beside the next: a change lasts where at least half "
        "of them show it.",
        default=2,
        least=0,
    ),
    Option(
        "season_days",
        "whole",
        "Season (days)",
        "Compare only dates of one season, at most so many days of the year apart. Not set: all.",
        least=1,
    ),
    Option("workers", "whole", "Pairs computed at a time", least=1, advanced=True),
)

SAMPLE = (
    Option("size", "whole", "Number of points", "Not set: as many as the standard error needs.", least=1),
    Option(
        "standard_error",
        "number",
        "Standard error of the overall accuracy",
        default=0.01,
        least=0.001,
        most=0.1,
        advanced=True,
    ),
    Option("seed", "whole", "Seed of the draw", default=0, least=0, advanced=True),
)

ESTIMATE = (
    Option(
        "interval",
        "choice",
        "Intervals",
        "jeffreys: holds where errors are rare; wald: plus or minus 1.96 standard errors, often too short.",
        default="jeffreys",
        choices=("jeffreys", "wald"),
        advanced=True,
    ),
)

REFINE = (Option("next", "whole", "Changes to propose", default=10, least=0, most=1000),)
