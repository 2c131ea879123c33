"""flashtorch: a filter that is not there passes the check.

`_validate_filter_idx` refuses `filter_idx > num_filters`; the last is `num_filters - 1`, as its message says.
"""

import numpy as np
from flashtorch.activmax import GradientAscent

check = GradientAscent._validate_filter_idx
for index in (64, 65):
    try:
        check(None, 64, np.int64(index))
        print(f"filter {index} of 64: accepted")
    except ValueError:
        print(f"filter {index} of 64: refused")
