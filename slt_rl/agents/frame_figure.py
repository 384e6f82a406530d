"""A strip of frames for each of several checkpoints, drawn from the symbolic map."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from slt_rl.agents.frames import Frames
from slt_rl.report.style import INK, MUTED, new_figure, short_number, styled

# Tiles to each side of the agent; the agent itself sees 4 columns and 3 rows.
VIEW, SEEN = 7, (4, 3)
# By the numbers of the game, 0 to 16; whatever full Craftax has more is OTHER.
BLOCKS = (
    ("invalid", "#000000"), ("beyond the map", "#3a3a3a"), ("grass", "#a8d08d"),
    ("water", "#7db7e8"), ("stone", "#9a9a9a"), ("tree", "#2f6b2f"), ("wood", "#8b5a2b"),
    ("path", "#d9cbb0"), ("coal", "#4d4d4d"), ("iron", "#c9996b"), ("diamond", "#e8f7ff"),
    ("table", "#b5651d"), ("furnace", "#6e3b3b"), ("sand", "#efe0a3"), ("lava", "#e2521d"),
    ("plant", "#a8d08d"), ("ripe plant", "#a8d08d"),
)  # fmt: skip
OTHER = "#8a6fa8"
PLANT, RIPE = 15, 16
ARROWS = {1: "<", 2: ">", 3: "^", 4: "v"}
CREATURE_COLORS = (("attacker", "#1f4d1f"), ("cow", "#7a3b69"), ("archer", "#f5f5f5"))


def frame_figure(strips: Sequence[Frames], event_index: int, event: str) -> Figure:
    """One row for each checkpoint, one picture for each moment of a typical episode.

    Args:
        strips: Frames of each checkpoint.
        event_index: Which of the counts is written over the pictures.
        event: Its name.
    """
    num_columns = max(len(strip.times) for strip in strips)
    with styled():
        figure = new_figure((1.75 * num_columns, 2.05 * len(strips) + 0.7))
        axes = figure.subplots(len(strips), num_columns, squeeze=False)
        for row, strip in zip(axes, strips, strict=True):
            for axis, index in zip(row, range(num_columns), strict=True):
                draw_frame(axis, strip, index)
                count = int(strip.counts[index, event_index])
                axis.set_title(
                    f"t = {strip.times[index]}, {event}: {count}", fontsize=8, loc="center",
                    fontweight="normal", pad=2,
                )  # fmt: skip
            end = "" if strip.complete else " or more"
            trained = f"after {short_number(strip.step, 3)} steps\nof training; an\nepisode of"
            row[0].set_ylabel(f"{trained} {strip.length}{end} steps", fontsize=8)
        present = np.unique(
            np.concatenate([_window(s, i).ravel() for s in strips for i in _all(s)])
        )
        figure.legend(handles=_legend(present), loc="outside lower center", ncols=7, fontsize=7.5)
    return figure


def _all(strip: Frames) -> range:
    return range(len(strip.times))


def draw_frame(axis: Axes, strip: Frames, index: int) -> None:
    """The surroundings of the agent, with the box of what it sees."""
    window = _window(strip, index)
    names = [to_rgb(color) for _, color in BLOCKS]
    colors = np.array([*names, *[to_rgb(OTHER)] * 64])
    axis.imshow(colors[np.minimum(window, len(colors) - 1)], interpolation="nearest")
    for block, color in ((PLANT, "#0b5d1e"), (RIPE, "#d11f6a")):
        rows, columns = np.nonzero(window == block)
        axis.plot(columns, rows, "P", color=color, ms=6, mec="white", mew=0.5, ls="none")
    for (_, color), places in zip(CREATURE_COLORS, strip.creatures, strict=True):
        places = places[index] - strip.positions[index] + VIEW
        inside = places[np.all((places >= 0) & (places <= 2 * VIEW), axis=-1)]
        axis.plot(inside[:, 1], inside[:, 0], "o", color=color, ms=4.5, mec=INK, mew=0.5, ls="none")
    marker = ARROWS.get(int(strip.directions[index]), "v")
    axis.plot(VIEW, VIEW, marker, color="#ffd400", ms=7, mec=INK, mew=0.8)
    box = (VIEW - SEEN[0] - 0.5, VIEW - SEEN[1] - 0.5)
    axis.add_patch(Rectangle(box, 2 * SEEN[0] + 1, 2 * SEEN[1] + 1, fill=False, ec="white", lw=1.0))
    axis.set(xticks=[], yticks=[])
    axis.grid(False)
    axis.spines[:].set_visible(False)


def _window(strip: Frames, index: int) -> np.ndarray:
    """The map around the agent, `[2 VIEW + 1, 2 VIEW + 1]`."""
    padded = np.pad(strip.maps[index], VIEW, constant_values=1)
    row, column = strip.positions[index]
    return padded[row : row + 2 * VIEW + 1, column : column + 2 * VIEW + 1]


def _legend(present: np.ndarray) -> list[Patch | Line2D]:
    marks = [("agent", "v", "#ffd400"), ("plant", "P", "#0b5d1e"), ("ripe plant", "P", "#d11f6a")]
    marks += [(name, "o", color) for name, color in CREATURE_COLORS]
    lines = [
        Line2D([], [], marker=m, color=c, mec=INK, mew=0.5, ms=5, ls="none", label=name)
        for name, m, c in marks
    ]
    blocks = [BLOCKS[i] for i in present if i < len(BLOCKS) and i not in (0, PLANT, RIPE)]
    blocks += [("other", OTHER)] if (present >= len(BLOCKS)).any() else []
    patches = [Patch(facecolor=c, edgecolor=MUTED, lw=0.4, label=name) for name, c in blocks]
    return [*lines, *patches, Patch(fill=False, edgecolor=MUTED, label="box: what it sees")]
