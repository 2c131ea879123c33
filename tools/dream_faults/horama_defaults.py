"""Horama: it wants a GPU and matplotlib, and MACO downloads into the current folder.

`device='cuda'` is the default of every function, `plots` is imported with the package, and
`download_url(..., root=".")` fetches the spectrum where the user happens to stand.
"""

import contextlib
import inspect
import sys

import horama
from horama import maco_fv

print("device:", inspect.signature(horama.fourier).parameters["device"].default)
print("matplotlib is loaded:", "matplotlib" in sys.modules)
maco_fv.os.path.isfile = lambda _path: False
maco_fv.download_url = lambda _url, root, filename: sys.exit(print("downloads to", f"{root}/{filename}"))
with contextlib.suppress(SystemExit):
    maco_fv.init_maco_buffer((16, 16))
