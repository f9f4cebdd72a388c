"""Addresses of servers in settings: what can't be one is refused before anything connects.

No refusal repeats an address that may hold a password, nor lets a driver do so later: libpq, for
one, prints the piece of a password that it could not read.
"""

import re
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

PORT_MAX = 65_535
ENGINE_KINDS = ("tgi", "openai")
"""The protocols that engines speak."""
ENGINE_SCHEMES = ("http", "https", "dns", "srv")

_NAME = re.compile(
    r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*)?)*\.?"
)
_ONLY_NUMBERS = re.compile(r"[0-9.]+")
_ENGINE_FORM = (
    "should look like tgi+http://host:port or openai+http://host:port/v1, or, for a name with an "
    "engine at each of its addresses, tgi+dns://host:port or openai+dns://host:port/v1; or, for "
    "one with SRV records, tgi+srv://_tgi._tcp.host or openai+srv://_openai._tcp.host/v1"
)
_ENCODED = "percent-encode what is not a letter or a digit in a user name or password"


def is_host(text: str) -> bool:
    """Whether it is an IP address or can be a name."""
    try:
        ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return _NAME.fullmatch(text) is not None and _ONLY_NUMBERS.fullmatch(text) is None
    return True


def is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and 1 <= int(text) <= PORT_MAX


def check_engine(text: str) -> tuple[str, str]:
    """(protocol, URL) of an engine. Raises ValueError, which shows no user, password or query."""
    if re.search(r"[@?#]", text):
        raise ValueError(
            "each address should be without a user, a password, a query or a fragment: an engine "
            "that wants a key can't be used yet, put a proxy that adds it in front"
        )
    kind, plus, url = text.partition("+")
    parts = _split(url)
    if not plus or kind not in ENGINE_KINDS or parts.scheme not in ENGINE_SCHEMES:
        raise ValueError(f"{text!r} {_ENGINE_FORM}")
    if not parts.hostname or not is_host(parts.hostname):
        raise ValueError(f"{text!r} names no host; it {_ENGINE_FORM}")
    if not _has_good_port(parts):
        raise ValueError(f"{text!r} has no port from 1 to {PORT_MAX}; it {_ENGINE_FORM}")
    if parts.scheme == "dns" and parts.port is None:
        raise ValueError(f"{text!r} names no port; it {_ENGINE_FORM}")
    if parts.scheme == "srv" and parts.port is not None:
        raise ValueError(f"{text!r} names a port, which SRV records do; it {_ENGINE_FORM}")
    return kind, url.rstrip("/")


def check_kafka(text: str) -> None:
    """`host:port`, or several. Raises ValueError."""
    for address in text.split(","):
        host, _, port = address.strip().rpartition(":")
        if not is_host(host) or not is_port(port):
            raise ValueError(
                f"should be host:port with a port from 1 to {PORT_MAX}, or several with commas "
                "between them"
            )


def check_redis(text: str) -> None:
    """`redis://host:port/0`, `rediss://...` or `unix://path`. Raises ValueError without it."""
    parts = _split(text)
    if parts.scheme == "unix" and parts.path:
        return
    if parts.scheme not in ("redis", "rediss"):
        raise ValueError("should begin with redis://, rediss:// or unix://")
    database = parts.path.strip("/")
    if not parts.hostname or not is_host(parts.hostname) or not _has_good_port(parts):
        raise ValueError(f"should name a host, and a port from 1 to {PORT_MAX}; {_ENCODED}")
    if parts.fragment or (database and not database.isdigit()):
        raise ValueError(f"should end with the number of a database or with nothing; {_ENCODED}")


def check_collector(text: str) -> str:
    """The base address of an OTLP collector, without a slash. Raises ValueError without it."""
    parts = _split(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or not is_host(parts.hostname):
        raise ValueError("should look like http://host:4318")
    if not _has_good_port(parts) or re.search(r"[@?#]", text):
        raise ValueError(
            f"should have a port from 1 to {PORT_MAX}, and no user, password, query or fragment: "
            "what a collector wants to know goes into OTEL_EXPORTER_OTLP_HEADERS"
        )
    return text.rstrip("/")


def check_database(text: str) -> None:
    """A URL as libpq reads it. Raises ValueError without any of it."""
    if not text.startswith(("postgresql://", "postgres://")):
        raise ValueError("should begin with postgresql://")
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    try:
        found = {name: str(value) for name, value in conninfo_to_dict(text).items()}
    except ProgrammingError:
        raise ValueError(
            f"should look like postgresql://user:password@host:port/database; {_ENCODED}"
        ) from None
    hosts = found.get("host", "").split(",")
    if not all(is_host(host) for host in hosts if host and not host.startswith("/")):
        raise ValueError(f"should name a host; {_ENCODED}")
    if not all(is_port(port) for port in found.get("port", "").split(",") if port):
        raise ValueError(f"should have a port from 1 to {PORT_MAX}; {_ENCODED}")
    if "@" in found.get("dbname", ""):
        raise ValueError(f"should have no @ in the database's name; {_ENCODED}")


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:  # half a pair of brackets, and the like
        return SplitResult("", "", "", "", "")


def _has_good_port(parts: SplitResult) -> bool:
    try:
        return parts.port is None or parts.port > 0
    except ValueError:
        return False
