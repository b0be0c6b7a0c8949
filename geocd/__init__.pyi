"""Unsupervised change detection for pairs of satellite and aerial images.

Made by ``python tests/stub.py`` from the settings; editors and type checkers read it.
"""

import os
from collections.abc import Sequence

import xarray as xr
from geopandas import GeoDataFrame

from geocd.check import PairReport
from geocd.metrics import Scores
from geocd.presets import Fit, Preset
from geocd.result import Probability
from geocd.stages import Align, CloudChoice, Focus, Ignorable, Kind, MaskClass, Method, Nodata
from geocd.types import Progress
from geocd.xarray import Raster

__version__: str
__all__: list[str]

def check(
    before: str | os.PathLike[str],
    after: str | os.PathLike[str],
    *,
    bidx: tuple[int | str, ...] | None = None,
    nodata: Nodata | None = None,
    valid: str | os.PathLike[str] | None = None,
    align: Align = "none",
    aoi: str | None = None,
    mask_before: str | None = None,
    mask_after: str | None = None,
    mask_kind: str = "auto",
    mask_classes: tuple[MaskClass, ...] = ("cloud", "shadow", "snow"),
    mask_buffer: float = 0.0,
    features_before: str | None = None,
    features_after: str | None = None,
) -> PairReport:
    """Check whether two rasters are a usable pair, and what to expect of it; called as ``geocd.check``.

    Parameters
    ----------
    before, after : path
        Two rasters of the same area.
    bidx, nodata, valid, align, aoi
        As for :func:`geocd.detect`.
    mask_before : str | None, optional
        Quality mask of BEFORE, as it comes with the product, of any resolution: what it calls cloud, shadow
        or snow is left out.
    mask_after : str | None, optional
        The same of AFTER.
    mask_kind : str, optional
        Kind of the masks: auto (by name, or by values that leave no doubt), scl (Sentinel-2), qa_pixel
        (Landsat), fmask (HLS), udm, udm2 (Planet), cloud or clear (0 and one other value), probability or
        probability:PERCENT (of cloud; 40 and more), values:4,5,6 (of usable pixels).
    mask_classes : tuple[MaskClass, ...], optional
        What the masks leave out: one or more of cloud,shadow,snow. What they call unusable always is.
    mask_buffer : float, optional
        Leave out as many metres around it, as masks miss the edges of clouds.
    features_before : str | None, optional
        Raster of features of BEFORE that were made elsewhere (a yearly embedding, the output of a
        foundation model), of any resolution: one more distance of the default method. Needs
        features_after=.
    features_after : str | None, optional
        The same of AFTER, by the same model.

    Returns
    -------
    PairReport
        With ``usable``, ``verdict`` and ``findings``. A pair that :func:`geocd.detect` would refuse is no
        error here: ``problem`` says why.

    Raises
    ------
    RasterOpenError, RasterReadError
        A file is missing, is no raster, or is damaged.
    """

def detect(
    before: Raster,
    after: Raster,
    output: str | os.PathLike[str] | None = None,
    *,
    valid: Raster | None = None,
    lazy: bool | None = None,
    progress: Progress | bool | None = None,
    jobs: int | None = None,
    mem_limit: int | None = None,
    overwrite: bool = False,
    resume: bool = False,
    bidx: tuple[int | str, ...] | None = None,
    nodata: Nodata | None = None,
    align: Align = "none",
    aoi: str | None = None,
    mask_before: str | None = None,
    mask_after: str | None = None,
    mask_kind: str = "auto",
    mask_classes: tuple[MaskClass, ...] = ("cloud", "shadow", "snow"),
    mask_buffer: float = 0.0,
    features_before: str | None = None,
    features_after: str | None = None,
    baseline: tuple[str, ...] = (),
    confirm: tuple[str, ...] = (),
    mask_baseline: tuple[str, ...] = (),
    mask_confirm: tuple[str, ...] = (),
    lasting_band: bool = False,
    refine: str | None = None,
    ignore: tuple[Ignorable, ...] = (),
    cloud_detector: CloudChoice = "auto",
    tile_size: int | None = None,
    overlap: int | None = None,
    method: Method = "deep",
    preset: Preset = "default",
    kind: Kind = "image",
    weights: str | None = None,
    backbone: str | None = None,
    iterations: int | None = None,
    learning_rate: float | None = None,
    fit: Fit | None = None,
    focus: Focus = "any",
    threshold: float | None = None,
    uncertainty: bool = False,
    seed: int = 0,
    device: str = "auto",
    min_area: float = 0.0,
    fill_holes: float = 0.0,
    simplify: float = 0.0,
    smooth: int = 0,
) -> xr.Dataset:
    """Detect changes between two rasters.

    Parameters
    ----------
    before, after : path, xarray.DataArray or xarray.Dataset
        The same area, on the same grid unless ``align`` is set. Paths and URLs: anything GDAL opens.
        DataArrays: dimensions ``(band, y, x)`` or ``(y, x)`` in any order, with CRS and nodata as rioxarray
        stores them; open files with ``rioxarray.open_rasterio(path, masked=True)``, since masks and alpha
        are lost otherwise. Band names are read from the band coordinate or from ``long_name``. Datasets, as
        odc-stac loads them: variables are bands of their names, each with its own nodata value. An ``after``
        whose rows or columns run in the opposite direction is flipped.
    output : path, optional
        Where to write all files of the command line, polygons and report with them: a folder, or the
        beginning of their names. For paths only.
    valid : path, xarray.DataArray or xarray.Dataset, optional
        0 where the pair may not be used, one other value where it may.
    lazy : bool, optional
        Whether dask computes the result later, chunk by chunk; default: where an input is a dask array. The
        method is fitted immediately in any case, to a sample of bounded size.
    progress : bool or callable
        True: a bar, in notebooks and terminals (needs tqdm). A function is called as ``progress(stage, done,
        total)``. Not with ``lazy``.
    jobs, mem_limit : int, optional
        Number of tiles computed at a time, and memory limit of the process in megabytes, as for
        :func:`geocd.pipeline.run.detect`. Not with ``lazy``, where dask decides.
    overwrite, resume : bool
        With ``output``: whether existing files may be replaced, and an interrupted run continues.
    bidx : tuple[int | str, ...] | None, optional
        Bands to compare, by number from 1 (1,2,3 or 1..3) or by name (red,green,nir), looked up in each
        file. Default: all bands but alpha, matched by name where both files name theirs.
    nodata : Nodata | None, optional
        Nodata value of both rasters, overriding the values that they declare; none: only what they declare.
        Default: what they declare, and the value of an undeclared rim at the border.
    align : Align, optional
        none: refuse rasters that are not on the same grid; grid: warp AFTER onto the grid of BEFORE while
        reading; shift: also remove the shift between the two images, if it can be measured (one for the
        whole scene).
    aoi : str | None, optional
        Area to look at: a vector file with polygons; or 'left bottom right top' or WKT, in the CRS of
        BEFORE or with its own (SRID=4326;POLYGON ...). Nothing else is read; results are on its pixels.
    mask_before : str | None, optional
        Quality mask of BEFORE, as it comes with the product, of any resolution: what it calls cloud, shadow
        or snow is left out.
    mask_after : str | None, optional
        The same of AFTER.
    mask_kind : str, optional
        Kind of the masks: auto (by name, or by values that leave no doubt), scl (Sentinel-2), qa_pixel
        (Landsat), fmask (HLS), udm, udm2 (Planet), cloud or clear (0 and one other value), probability or
        probability:PERCENT (of cloud; 40 and more), values:4,5,6 (of usable pixels).
    mask_classes : tuple[MaskClass, ...], optional
        What the masks leave out: one or more of cloud,shadow,snow. What they call unusable always is.
    mask_buffer : float, optional
        Leave out as many metres around it, as masks miss the edges of clouds.
    features_before : str | None, optional
        Raster of features of BEFORE that were made elsewhere (a yearly embedding, the output of a
        foundation model), of any resolution: one more distance of the default method. Needs
        features_after=.
    features_after : str | None, optional
        The same of AFTER, by the same model.
    baseline : tuple[str, ...], optional
        Images of earlier dates, before which nothing is asked about: what they show that a place does by
        itself, such as its seasons, is not called changed.
    confirm : tuple[str, ...], optional
        Images of later dates: polygons get the columns lasting (0: gone again, 1: still there) and
        last_seen.
    mask_baseline : tuple[str, ...], optional
        Quality masks of the images of baseline=, as many and in their order; none for an image without one.
        Kind, classes and buffer are those of mask_before=.
    mask_confirm : tuple[str, ...], optional
        The same of the images of confirm=.
    lasting_band : bool, optional
        Add a band to the probability raster: lasting, of each changed pixel. Needs confirm=.
    refine : str | None, optional
        Verdicts on other pairs, a model that geocd refine has saved: polygons get the column relevance (0
        to 1: how likely they are what the reviewer meant). Detection does not see it.
    ignore : tuple[Ignorable, ...], optional
        Leave out pixels that are water or vegetation in both dates, or cloud in either: one or more of
        water,cloud,vegetation. Uses simple rules that need named bands and values proportional to
        reflectance.
    cloud_detector : CloudChoice, optional
        What ignore=('cloud',) goes by. network: ukis-csmask (geocd[clouds]), which sees shadow, too; rule:
        bright and white; auto: the network where it is installed and suits the pair, else the rule.
    tile_size : int | None, optional
        Side of a tile, in pixels. Default: 512 (preset reference: 256).
    overlap : int | None, optional
        Minimum overlap of neighbouring tiles, in pixels (blended). Default: 128 (cva and irmad: 32).
    method : Method, optional
        deep: metric learning on the pair; cva: change vector analysis; irmad: iteratively re-weighted
        multivariate alteration detection.
    preset : Preset, optional
        default: frozen deep features under a metric learned on the pair in closed form; reference: the
        published method, VGG16 and a full-resolution generator, hours per megapixel on a CPU.
    kind : Kind, optional
        image: bands are what a sensor measured; embedding: they are the dimensions of features made
        elsewhere, and the metric learned on the pair is all there is.
    weights : str | None, optional
        Weights of the feature extractor: embedded (EfficientNet-Lite0 of ImageNet), imagenet (VGG16,
        downloaded once, preset reference), random, none (default preset: no deep distances), or a FILE
        (.safetensors or a torch state dict). Default: those of the preset.
    backbone : str | None, optional
        Another feature extractor for the deep distances of the default preset: the weights of VGG16
        (features of stride 2 and 4), or a Python file with a function backbone(), which is run. Default:
        EfficientNet-Lite0.
    iterations : int | None, optional
        Optimisation steps of preset reference, 80 by default; 0 for none. The default preset has none: it
        learns in closed form.
    learning_rate : float | None, optional
        Learning rate of preset reference. Default: 1e-4.
    fit : Fit | None, optional
        scene: fit once, to a sample of the scene, so that tiles agree; tile: train the networks on every
        tile, preset reference only, which does so by default, as published.
    focus : Focus, optional
        any: every change; built: buildings, roads and bare ground, by a prior on the cover that finds less
        of what is green on either date (crops, cleared forest). Needs named bands with infrared, and values
        proportional to reflectance.
    threshold : float | None, optional
        Probability from which a pixel counts as changed; auto: 0.5, the decision threshold of the methods.
    uncertainty : bool, optional
        Add a band to the probability raster: how far the distances of the default preset disagree.
    seed : int, optional
        Seed of all random numbers.
    device : str, optional
        Compute device: auto, cpu, cuda (tiles on all GPUs), cuda:1, mps.
    min_area : float, optional
        Leave out polygons smaller than this, in square metres.
    fill_holes : float, optional
        Fill holes smaller than this, in square metres, unless they contain another polygon.
    simplify : float, optional
        Simplify outlines: remove vertices that stand out by less than about this many metres (Visvalingam-
        Whyatt, triangles below METRES squared); polygons stay valid and do not overlap.
    smooth : int, optional
        Smooth outlines by this many rounds of corner cutting (Chaikin), at most 5.

    Returns
    -------
    xarray.Dataset
        On the grid of ``before``, with its coordinates and CRS. ``change_probability``: ``(y, x)``, float32
        in [0, 1], NaN where not valid; ``changed``: ``(y, x)``, uint8, 1 where the probability is at least
        the threshold, 0 elsewhere, 255 (nodata) where not valid; with ``uncertainty=True``, ``uncertainty``:
        ``(y, x)``, float32 in [0, 1], and with ``lasting_band=True`` ``lasting``, likewise, NaN where nothing
        changed. The attributes ``threshold``, ``settings`` (JSON), ``provenance``
        (JSON: inputs, bands, dates) and ``geocd_version`` record how it was made, in types that netCDF
        supports; with ``output`` also ``files`` (JSON: paths by name). The accessor ``.geocd`` has
        ``polygons()``, ``plot()`` and ``explore()``.

    Warns
    -----
    GeocdWarning
        For each finding about the pair: no common structure, shift, dates in reverse order, another light.

    Raises
    ------
    GeocdError
        See :mod:`geocd.errors`.

    Examples
    --------
    >>> import geocd
    >>> changes = geocd.detect("before.tif", "after.tif")  # doctest: +SKIP
    >>> (changes.changed == 1).mean().item()  # doctest: +SKIP
    >>> changes.geocd.polygons(min_area=400).to_file("changes.gpkg")  # doctest: +SKIP
    """

def evaluate(
    prob: str | os.PathLike[str] | xr.DataArray | xr.Dataset,
    reference: str | os.PathLike[str],
    *,
    threshold: float | None = None,
) -> Scores:
    """Return the agreement of a change probability with a reference; called as ``geocd.evaluate``.

    Parameters
    ----------
    prob : path, xarray.DataArray or xarray.Dataset
        A result of :func:`geocd.detect`, or the probability raster of a run.
    reference : path
        See :func:`evaluate_files`.
    threshold : float, optional
        Changed where the probability is at least this. Default: that of the run; 0.5 where it is unknown.

    Returns
    -------
    Scores
        With scores by object.

    Raises
    ------
    GeocdError
        See :func:`evaluate_files`.
    """

def polygonize(
    prob: Probability,
    output: str | os.PathLike[str] | None = None,
    *,
    threshold: float | None = None,
    pair: Sequence[str | os.PathLike[str]] | None = None,
    bands: bool = True,
    overwrite: bool = False,
    min_area: float = 0.0,
    fill_holes: float = 0.0,
    simplify: float = 0.0,
    smooth: int = 0,
) -> GeoDataFrame:
    """Return the polygons of a change probability as a GeoDataFrame, and write them if an output is named.

    Parameters
    ----------
    prob : xarray.Dataset, xarray.DataArray or path
        A result of :func:`geocd.detect`, or the probability raster of a run.
    output : path, optional
        File to write as well; its suffix decides the format, see :mod:`geocd.vectorize.formats`.
    threshold : float, optional
        A pixel is changed where its probability is at least this, in (0, 1]. Default: that of the run.
    pair : sequence of two paths, optional
        The two images, for the columns of bands, indices and kinds. Default: where the run read them.
    bands : bool
        Whether there are columns of bands and indices. The images are read for them; where they cannot be,
        or are on another grid, the columns are left out, unless ``pair`` names them.
    overwrite : bool
        Whether existing files may be replaced: the output, its style, the parts of a shapefile.
    min_area : float, optional
        Leave out polygons smaller than this, in square metres.
    fill_holes : float, optional
        Fill holes smaller than this, in square metres, unless they contain another polygon.
    simplify : float, optional
        Simplify outlines: remove vertices that stand out by less than about this many metres (Visvalingam-
        Whyatt, triangles below METRES squared); polygons stay valid and do not overlap.
    smooth : int, optional
        Smooth outlines by this many rounds of corner cutting (Chaikin), at most 5.

    Returns
    -------
    geopandas.GeoDataFrame
        One row for each polygon, in the CRS of the raster, with the columns of the layer ``changes``. The
        settings of the run hold unless others are passed.

    Raises
    ------
    ConfigError
        The threshold is missing or out of range, or a setting cannot work.
    GeocdError
        See :func:`geocd.vectorize.polygonize`.

    Examples
    --------
    >>> changes = geocd.detect("before.tif", "after.tif")  # doctest: +SKIP
    >>> geocd.polygonize(changes, threshold=0.8, min_area=400).plot("p_mean")  # doctest: +SKIP
    """

def refine(
    results: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    verdicts: str | os.PathLike[str] | None = None,
    models: Sequence[str | os.PathLike[str]] = (),
    save_model: str | os.PathLike[str] | None = None,
    count: int = 10,
) -> GeoDataFrame:
    """Rank the polygons of a run by verdicts on some of them, as ``geocd refine`` does.

    Parameters
    ----------
    results : path
        What ``geocd.detect`` was given as ``output``, or one of its files. Verdicts are those in its
        polygons, and in those of an older ``output``.
    output : path, optional
        GeoPackage to write. Default: ``STEM_refined.gpkg``.
    verdicts : path, optional
        File with the columns ``id`` and ``verdict``, which count before those of the polygons. Default:
        ``STEM_verdicts.csv`` or ``.geojson``, where there is one.
    models, count, save_model
        As for :func:`geocd.review.ranking.refine`. Nothing but an older model is replaced.

    Returns
    -------
    geopandas.GeoDataFrame
        The polygons with ``relevance``, 0 to 1, and ``judge_next``, the most relevant first.

    Raises
    ------
    GeocdError
        See :func:`geocd.review.ranking.refine`.
    """
