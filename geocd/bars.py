"""Progress bars for those who call from Python: with tqdm, in notebooks and terminals alike."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

from geocd.errors import ConfigError
from geocd.types import Progress


@contextlib.contextmanager
def bar(progress: Progress | bool | None) -> Iterator[Progress]:
    """Yield a progress callback: what was passed, a bar for each stage where it is True, or nothing.

    Raises
    ------
    ConfigError
        A bar is asked for, and tqdm is not installed.
    """
    if not progress:
        yield lambda stage, done, total: None
    elif progress is not True:
        yield progress
    else:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # without ipywidgets it draws with characters, which will do
                from tqdm.auto import tqdm
        except ModuleNotFoundError as error:
            raise ConfigError(
                "progress=True: the bar needs tqdm. Install it with: pip install 'geocd[notebook]', or "
                "pass a function, which is called as progress(stage, done, total).",
                name="progress",
            ) from error
        with contextlib.ExitStack() as stack:
            bars: dict[str, tqdm] = {}

            def show(stage: str, done: int, total: int) -> None:
                if stage not in bars:
                    stack.close()  # the bar before is complete
                    bars[stage] = stack.enter_context(tqdm(total=total, desc=stage))
                bars[stage].update(done - bars[stage].n)

            yield show


__all__ = ["bar"]
