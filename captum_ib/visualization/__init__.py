"""Pictures of attributions: maps over their pictures, coloured words, and methods side by side.

One :class:`Style` says how a map looks, in Python, the command line, the page and the gallery.
Maps of one sign (bits) are drawn in viridis from 0 to the strongest value; maps of both signs in
RdBu (reversed: red is positive), with limits symmetric about 0. A value of 0 is transparent, so the
picture stays in view. The colours are readable with the common kinds of colour blindness. Figures
are made with matplotlib's object interface: nothing here opens a window or touches pyplot's state.
"""

from captum_ib.visualization.attention import attention
from captum_ib.visualization.colors import Scale, enlarged, overlay, pooled
from captum_ib.visualization.figures import compare, grid, save
from captum_ib.visualization.frames import frames
from captum_ib.visualization.numbers import amount, unit_of
from captum_ib.visualization.panels import Panel, Passage
from captum_ib.visualization.passages import texts
from captum_ib.visualization.regions import word_regions
from captum_ib.visualization.style import CONTROLS, Control, Style, style_from
from captum_ib.visualization.words import caption

__all__ = [
    "CONTROLS",
    "Control",
    "Panel",
    "Passage",
    "Scale",
    "Style",
    "amount",
    "attention",
    "caption",
    "compare",
    "enlarged",
    "frames",
    "grid",
    "overlay",
    "pooled",
    "save",
    "style_from",
    "texts",
    "unit_of",
    "word_regions",
]
