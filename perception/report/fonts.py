"""The faces of the page, and that they have every character of it: a missing glyph is an error, never a box.

The faces that GB/T 9704 asks for may not be redistributed, so the machine's own are taken (fontconfig's folders), else
the package `noto-cjk-sans-otc`.
"""

import functools
import importlib.util
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

ROLES: Final[dict[str, tuple[str, ...]]] = {
    "title": ("方正小标宋简体", "FZXiaoBiaoSong-B05S", "FZXiaoBiaoSong-B05", "SimSun", "Noto Serif CJK SC"),
    "heading": ("SimHei", "黑体", "Noto Sans CJK SC"),
    "subheading": ("KaiTi_GB2312", "KaiTi", "楷体", "AR PL UKai CN"),
    "body": ("FangSong_GB2312", "仿宋_GB2312", "FangSong", "仿宋"),
}
"""What the standard asks for, best first."""

ANY: Final = (
    "Noto Sans CJK SC", "Source Han Sans SC", "Noto Serif CJK SC", "Source Han Serif SC", "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei", "AR PL UMing CN", "Droid Sans Fallback",
)  # fmt: skip
"""Chinese faces that Linux machines have, for a role whose own is not there."""


_INVISIBLE: Final = frozenset({"Zs", "Zl", "Zp", "Cf"})
"""Unicode categories that need no glyph: blanks and format marks."""


class FontError(Exception):
    """A page that would have boxes: which characters, and what to install."""


class Face(NamedTuple):
    """A regular face in a file."""

    family: str
    path: str
    number: int
    """In a collection."""


def chosen(characters: Iterable[str], *, system: bool = True) -> dict[str, str]:
    """The family of each role, one that has every one of `characters`.

    :raises FontError: when there is none.
    """
    wanted = {ord(one) for one in characters if unicodedata.category(one) not in _INVISIBLE}
    faces = _faces(system)
    missing: dict[str, set[int]] = {}
    found: dict[str, str] = {}
    for role, families in ROLES.items():
        for family in dict.fromkeys((*families, *ANY)):
            if family in faces and family not in missing:
                lacks = wanted - _covered(faces[family])
                if not lacks:
                    found[role] = family
                    break
                missing[family] = lacks
        else:
            raise FontError(_explained(missing))
    return found


def folders() -> list[Path]:
    """Where fonts are that no system folder has: the package's, when it is installed."""
    spec = importlib.util.find_spec("noto_cjk_sans_otc")
    return [Path(spec.origin).parent] if spec is not None and spec.origin else []


@functools.cache
def _faces(system: bool) -> dict[str, Face]:
    import typst  # of the report extra; this module's error is known without it

    known = typst.Fonts(
        include_system_fonts=system, include_embedded_fonts=False, font_paths=[str(folder) for folder in folders()]
    )
    found: dict[str, Face] = {}
    for face in sorted(known.fonts(), key=lambda face: (abs(face.weight - 400), str(face.path), face.index)):
        if face.style == "normal" and face.path is not None:
            found.setdefault(face.family, Face(face.family, str(face.path), face.index))
    return found


@functools.cache
def _covered(face: Face) -> frozenset[int]:
    from fontTools.ttLib import TTFont

    with TTFont(face.path, fontNumber=face.number, lazy=True) as font:
        return frozenset(font.getBestCmap() or ())


def _explained(missing: dict[str, set[int]]) -> str:
    if not missing:
        return (
            "no Chinese font found: install one (Debian: fonts-noto-cjk), or the Python package noto-cjk-sans-otc "
            "(pip install 'wanggan[report]')"
        )
    family, lacks = min(missing.items(), key=lambda one: (len(one[1]), one[0]))
    listed = ", ".join(f"{chr(code)!r} (U+{code:04X})" for code in sorted(lacks)[:10])
    more = f" and {len(lacks) - 10} more" if len(lacks) > 10 else ""
    return (
        f"no font has all characters of the report: {family!r} lacks {listed}{more}; "
        "install a font that has them, or change the name in the site register or measures file that uses them"
    )
