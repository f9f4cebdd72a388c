"""Writes docs/asyncapi.yaml and docs/schemas/ anew: `python -m infra.schemas`."""

from pathlib import Path

from infra.schemas.files import files

DOCS = Path(__file__).parents[2] / "docs"


def main() -> None:
    wanted = files()
    for old in (DOCS / "schemas").glob("*.json"):
        if f"schemas/{old.name}" not in wanted:
            old.unlink()
    for name, text in wanted.items():
        (DOCS / name).parent.mkdir(parents=True, exist_ok=True)
        (DOCS / name).write_text(text)


if __name__ == "__main__":
    main()
