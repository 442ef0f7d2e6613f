"""Which layer to explain: candidate layers scored on the user's own data by a stated criterion."""

from captum_ib.layer_choice.rank import default_candidates, rank_layers
from captum_ib.layer_choice.ranking import LayerRanking

__all__ = ["LayerRanking", "default_candidates", "rank_layers"]
