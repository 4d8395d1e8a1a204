"""How long to wait before connecting again."""

import random

FIRST_S = 0.5
LONGEST_S = 30.0


def full_jitter_s(attempt: int) -> float:
    """A wait before the attempt-th reconnection (from 1): from 0 to a bound that doubles from 0.5 s to 30 s.

    The whole range, so that devices cut off together do not come back together.
    """
    return random.uniform(0, min(LONGEST_S, FIRST_S * 2 ** min(attempt - 1, 16)))  # noqa: S311 # not a secret
