"""How often one address may try to log in."""

from collections import OrderedDict
from dataclasses import dataclass, field

BURST, REFILL_S = 30, 2.0
MAX_ADDRESSES = 10_000


@dataclass
class Throttle:
    """A bucket of BURST logins for each address, which gains one in REFILL_S.

    Wrong and right passwords count alike: each costs the same memory and processor time. Of more than MAX_ADDRESSES
    those that came last are remembered.
    """

    _full_at: OrderedDict[str, float] = field(default_factory=OrderedDict)

    def take(self, address: str, now_s: float) -> float:
        """Counts a login and answers 0; or, not counting it, the seconds until one is free."""
        full_at = max(self._full_at.get(address, now_s), now_s) + REFILL_S
        if (wait_s := full_at - now_s - BURST * REFILL_S) > 0:
            return wait_s
        self._full_at[address] = full_at
        self._full_at.move_to_end(address)
        if len(self._full_at) > MAX_ADDRESSES:
            self._full_at.popitem(last=False)
        return 0.0
