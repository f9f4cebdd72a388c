"""`python -m infra.local_engine --port 3000`: the local engine by itself."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from infra.local_engine import limits
from infra.local_engine.main import DEMO_MODEL, serve


def main() -> None:
    """Serves until it is told to stop."""
    parser = argparse.ArgumentParser(prog="infra.local_engine", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", type=Path, default=DEMO_MODEL, help="in CTranslate2's form")
    parser.add_argument(
        "--max-concurrent-requests", type=int, default=limits.concurrent_requests_max
    )
    arguments = parser.parse_args()
    if not (arguments.model / "model.bin").is_file():
        parser.error(f"there is no model in {arguments.model}; `make demo-model` makes the demo's")
    asyncio.run(
        serve(
            arguments.host,
            arguments.port,
            arguments.model,
            max_concurrent_requests=arguments.max_concurrent_requests,
        )
    )


if __name__ == "__main__":
    main()
