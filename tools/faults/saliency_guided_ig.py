"""saliency: GuidedIG fails under NumPy 2.4.

It calls `np.quantile(..., interpolation='lower')`. NumPy 1.22 renamed the argument to `method`, and NumPy 2.4 removed
the old name.
"""

import numpy as np
import saliency.core

x = np.ones((4, 4, 3))
try:
    saliency.core.GuidedIG().GetMask(x, lambda inputs, **_: {saliency.core.INPUT_OUTPUT_GRADIENTS: np.asarray(inputs)})
except TypeError as error:
    print("TypeError:", error)
