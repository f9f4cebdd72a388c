"""Draws the stages of a first token as an SVG that reads on a light page and on a dark one."""

from collections.abc import Mapping
from html import escape

from tests.bench.stages import Staged

WIDTH, MARGIN = 860, 24
BAR_TOP, BAR_HEIGHT = 78, 44
LIST_TOP, LINE_HEIGHT = 190, 26
WAY_WIDTH = 300
"""Of the column of small bars beside the names."""
VISIBLE_SHARE = 0.045
"""A segment narrower than this share of the whole has no figure inside."""
COLOURS: Mapping[str, tuple[str, str]] = {
    # Okabe and Ito's palette, told apart without colour vision too: (fill, text on it)
    "gateway": ("#0072b2", "#ffffff"),
    "Postgres": ("#009e73", "#ffffff"),
    "relay": ("#cc79a7", "#1b1b1b"),
    "Kafka": ("#e69f00", "#1b1b1b"),
    "worker": ("#56b4e9", "#1b1b1b"),
    "engine": ("#9aa0a6", "#1b1b1b"),
    "Redis": ("#d55e00", "#ffffff"),
}
STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: #24292f }
.title { font-size: 17px; font-weight: 600 }
.small { font-size: 11.5px; fill: #57606a }
.figure { font-variant-numeric: tabular-nums; text-anchor: end }
.track { fill: #eaeef2 }
.line { stroke: #d0d7de; stroke-width: 1 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .small { fill: #9198a1 }
  .track { fill: #21262d }
  .line { stroke: #3d444d }
}
"""


def picture(found: Staged, said: str) -> str:
    """`said` stands below the title: the date and the machine."""
    height = LIST_TOP + LINE_HEIGHT * len(found.stages) + MARGIN
    own = found.summed - engine_of(found)
    title = f"First token after {found.summed * 1e3:.1f} ms, {own * 1e3:.1f} ms of them Thalweg's"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"'
        f' aria-label="{escape(title)}">',
        f"<style>{STYLE}</style>",
        f'<text class="title" x="{MARGIN}" y="34">{escape(title)}</text>',
        f'<text class="small" x="{MARGIN}" y="56">{escape(said)}</text>',
        *bar(found),
        *legend(found),
        *lines(found),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def engine_of(found: Staged) -> float:
    return sum(seconds for who, _, seconds in found.stages if who == "engine")


def bar(found: Staged) -> list[str]:
    """One bar, a segment a stage, in their order."""
    whole, x = WIDTH - 2 * MARGIN, float(MARGIN)
    drawn = [
        f'<clipPath id="bar"><rect x="{MARGIN}" y="{BAR_TOP}" width="{whole}"'
        f' height="{BAR_HEIGHT}" rx="6"/></clipPath>',
        '<g clip-path="url(#bar)">',
    ]
    labels = []
    for who, what, seconds in found.stages:
        width = whole * seconds / found.summed
        fill, on_it = COLOURS[who]
        drawn.append(
            f'<rect x="{x:.2f}" y="{BAR_TOP}" width="{max(0.0, width - 1):.2f}"'
            f' height="{BAR_HEIGHT}" fill="{fill}"><title>{escape(f"{who}: {what}")}</title></rect>'
        )
        if seconds >= VISIBLE_SHARE * found.summed:
            labels.append(
                f'<text x="{x + width / 2:.2f}" y="{BAR_TOP + BAR_HEIGHT / 2 + 5:.0f}"'
                f' text-anchor="middle" style="fill:{on_it}">{seconds * 1e3:.1f}</text>'
            )
        x += width
    return [*drawn, "</g>", *labels]


def legend(found: Staged) -> list[str]:
    """Who is at work, with what is theirs in all."""
    drawn, x, y = [], MARGIN, BAR_TOP + BAR_HEIGHT + 26
    for who, (fill, _) in COLOURS.items():
        seconds = sum(one for name, _, one in found.stages if name == who)
        text = f"{who} {seconds * 1e3:.1f} ms"
        drawn += [
            f'<rect x="{x}" y="{y - 11}" width="12" height="12" rx="3" fill="{fill}"/>',
            f'<text class="small" x="{x + 17}" y="{y}">{escape(text)}</text>',
        ]
        x += (WIDTH - 2 * MARGIN) // len(COLOURS)
    line = y + 18
    drawn.append(
        f'<line class="line" x1="{MARGIN}" x2="{WIDTH - MARGIN}" y1="{line}" y2="{line}"/>'
    )
    return drawn


def lines(found: Staged) -> list[str]:
    """Every stage with its figure and its place on the way."""
    drawn: list[str] = []
    left, passed = WIDTH - MARGIN - WAY_WIDTH, 0.0
    for number, (who, what, seconds) in enumerate(found.stages):
        y = LIST_TOP + LINE_HEIGHT * number
        x = left + WAY_WIDTH * passed / found.summed
        width = max(2.0, WAY_WIDTH * seconds / found.summed)
        drawn += [
            f'<rect x="{MARGIN}" y="{y - 10}" width="10" height="10" rx="2"'
            f' fill="{COLOURS[who][0]}"/>',
            f'<text x="{MARGIN + 18}" y="{y}">{escape(who)}</text>',
            f'<text x="{MARGIN + 100}" y="{y}">{escape(what)}</text>',
            f'<text class="figure" x="{left - 16}" y="{y}">{seconds * 1e3:.2f} ms</text>',
            f'<rect class="track" x="{left}" y="{y - 9}" width="{WAY_WIDTH}" height="8" rx="4"/>',
            f'<rect x="{x:.2f}" y="{y - 9}" width="{width:.2f}" height="8" rx="2"'
            f' fill="{COLOURS[who][0]}"/>',
        ]
        passed += seconds
    return drawn
