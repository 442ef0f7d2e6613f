"""Pictures of attributions: overlays, coloured captions, and methods side by side.

Sequential maps (bits, all values ≥ 0) are drawn in viridis from 0 to the largest value; signed maps
in RdBu (reversed: red is positive), with limits symmetric about 0 so that 0 always has the middle
colour. Both are readable with the common kinds of colour blindness. Figures are made with
matplotlib's object interface: nothing here opens a window or touches pyplot's state.
"""

from captum_ib.visualization.attention import attention
from captum_ib.visualization.colors import Scale, overlay
from captum_ib.visualization.figures import Panel, caption, compare, grid, save

__all__ = ["Panel", "Scale", "attention", "caption", "compare", "grid", "overlay", "save"]
