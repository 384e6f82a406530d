"""Figures on disk, as PDF and SVG, and as images inside a page."""

import base64
import contextlib
import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path

from fontTools import subset
from matplotlib.figure import Figure

from slt_rl.array_files import write_file
from slt_rl.report.style import styled

_LARGEST_SVG = 1_000_000
# Without dates the same figure gives the same bytes.
_METADATA = {"pdf": {"CreationDate": None, "ModDate": None}, "svg": {"Date": None}}


@dataclasses.dataclass(frozen=True)
class FigureFile:
    """A saved figure.

    Attributes:
        name: Stem of the files.
        caption: What is seen; shown under the figure.
        alt: What is seen, in one sentence for a reader who cannot see it.
        image: `data:` address of the picture, SVG or, where that is large, PNG.
        width: Natural width in CSS pixels, 96 to the inch.
        files: Names of the files, relative to the folder of the report.
    """

    name: str
    caption: str
    alt: str
    image: str
    width: int
    files: tuple[str, ...]


def save_figure(
    figure: Figure, folder: Path, name: str, *, caption: str, alt: str = ""
) -> FigureFile:
    """Saves a figure as `figures/<name>.pdf` and `.svg` and prepares it for the page.

    Args:
        figure: The figure.
        folder: Folder of the report.
        name: Stem of the files; letters, digits, "-" and "_".
        caption: What is seen; shown under the figure.
        alt: The same in one sentence; the caption if empty.

    Returns:
        The saved figure.

    Raises:
        ValueError: If the name has other characters.
    """
    if not name or not name.replace("-", "").replace("_", "").isalnum():
        raise ValueError(f"name: got {name!r}, expected letters, digits, '-' and '_'")
    data = {}
    for kind in ("pdf", "svg"):
        data[kind] = _render(figure, kind)
        # The layout found for the first file holds for all; searched for again, it takes a third.
        figure.set_layout_engine("none")
    files = []
    for kind, content in data.items():
        write_file(Path(folder) / "figures" / f"{name}.{kind}", content)
        files.append(f"figures/{name}.{kind}")
    image = _address("image/svg+xml", data["svg"])
    if len(image) > _LARGEST_SVG:
        image = _address("image/png", _render(figure, "png"))
    width = round(96 * figure.get_figwidth())
    return FigureFile(name, caption, alt or caption, image, width, tuple(files))


def _render(figure: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    with styled(), _glyphs_alone():
        figure.savefig(buffer, format=kind, metadata=_METADATA.get(kind))
    return buffer.getvalue()


@contextlib.contextmanager
def _glyphs_alone() -> Iterator[None]:
    """Fonts are embedded without the tables by which text is laid out: a PDF places each glyph.

    To parse and prune them takes half of the time of a PDF; matplotlib has no option for it.
    """
    options = subset.Options
    before = getattr(options, "_drop_tables_default", [])
    options._drop_tables_default = [*before, "GDEF", "GPOS", "GSUB"]
    try:
        yield
    finally:
        options._drop_tables_default = before


def _address(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"
