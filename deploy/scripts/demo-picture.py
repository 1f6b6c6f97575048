#!/usr/bin/env python3
"""Draws the output of the demo as an SVG. Needs `pip install rich==15.0.0`.

    deploy/demo.sh | deploy/scripts/demo-picture.py > deploy/docs/demo.svg
"""

import re
import sys

from rich.console import Console
from rich.text import Text

WIDTH = 108


def lines(text):
    """Yields the commands and their output up to the Secret, without build messages and times, cut to WIDTH columns."""
    for line in text.split("\n$ cat state/status")[0].splitlines():
        if line.startswith(("building", "Done.")):
            continue
        line = re.sub(r"^time=\S+ ", "", line)
        line = re.sub(r"^\S+ 1 \w+ \w+ +\d+ \w+ +\d+ [\d:]+ ", "", line)
        if line.startswith("total "):
            continue
        yield line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"


def main():
    console = Console(record=True, width=WIDTH, file=sys.stderr, color_system="truecolor")
    for line in lines(sys.stdin.read().strip()):
        style = "bold bright_green" if line.startswith("$ ") else ""
        console.print(Text(line, style=style), soft_wrap=True)
    svg = console.export_svg(title="deploy/demo.sh", unique_id="demo")
    # The picture uses the fonts of the reader's system and fetches none.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.S)
    svg = svg.replace("Fira Code", "ui-monospace, Menlo, Consolas, monospace")
    print("\n".join(line.rstrip() for line in svg.splitlines()))


main()
