"""What `iw` prints with the drivers of several families: hand-written in the shape of each, `hwsim` recorded."""

from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "data" / "iw"
NAMES = sorted(folder.name for folder in FOLDER.iterdir())
OUTPUTS = ("link", "info", "station", "survey", "scan", "wireless")


@cache
def text(family: str, output: str) -> str:
    """Nothing where the driver has nothing to say."""
    file = FOLDER / family / f"{output}.txt"
    return file.read_text() if file.exists() else ""
