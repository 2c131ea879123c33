"""saliency: GuidedIG fails under NumPy 2.4.

It calls `np.quantile(..., interpolation='lower')`. The argument is called `method` since NumPy 1.22, and the old name
is gone from 2.4.
"""

import numpy as np
import saliency.core

x = np.ones((4, 4, 3))
try:
    saliency.core.GuidedIG().GetMask(x, lambda inputs, **_: {saliency.core.INPUT_OUTPUT_GRADIENTS: np.asarray(inputs)})
except TypeError as error:
    print("TypeError:", error)
