"""Many pairs on a dask cluster: nothing stops it, and what is finished stays finished.

``pairs`` reads what is to be done, ``manifest`` remembers what was done, ``work`` does one pair (on a
worker), ``run`` hands the work out (the client), ``archive`` makes one archive of all results.
"""

from __future__ import annotations
