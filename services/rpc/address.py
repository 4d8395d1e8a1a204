"""Where a caller is, as far as a limit by address may trust it."""

import ipaddress
import re
from collections.abc import Mapping
from urllib.parse import unquote


def caller_address(metadata: Mapping[str, str], peer: str) -> str:
    """The IP address behind a call; a network of 64 bits for IPv6, of which one machine has all.

    Through the edge it is what the edge wrote last into x-forwarded-for, after removing what the caller had written.
    Whoever reaches a role's own port can write there what he likes: that port is for the machines of the installation.
    """
    forwarded = metadata.get("x-forwarded-for", "").rpartition(",")[2].strip()
    direct = re.fullmatch(r"ipv[46]:\[?(.*?)\]?:\d+", unquote(peer))
    text = forwarded or (direct[1] if direct else peer)
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return text[:64]
    return str(ipaddress.ip_network((address, 64), strict=False)) if address.version == 6 else text
