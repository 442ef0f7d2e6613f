"""What any method does with a forward function: calls, targets, layers, parts, pairs."""

from captum_ib.facts import Facts
from captum_ib.forward.admit import require_one_device
from captum_ib.forward.call import Call, draw_seed, prepare
from captum_ib.forward.joint import (
    directions_of,
    embedding_of,
    require_joint,
    second_embedding,
)
from captum_ib.forward.layers import (
    activations,
    estimate,
    layout_of,
    named_layers,
    sequence_mask,
    session_layouts,
    session_of,
)
from captum_ib.forward.masks import Mask
from captum_ib.forward.method import (
    Inputs,
    Named,
    Tick,
    as_given,
    counting,
    in_parts,
    log_usage,
    progress,
    samples_at_once,
    watched,
)
from captum_ib.forward.output import output_tensor, predicted, probabilities
from captum_ib.forward.pair import (
    TowerCall,
    blocks_per_call,
    calls_of,
    logit_scale,
    one_layer_each,
    pair_calls,
    per_call,
    refuse_pairs,
    require_dual,
    tower_calls,
    tower_layers,
)
from captum_ib.forward.references import references_of, statistics_of
from captum_ib.forward.target import (
    Objective,
    Target,
    cosine,
    cross_entropy,
    cross_entropy_at,
    part_of_target,
    select,
    target_index,
)
from captum_ib.forward.words import WordRegions

__all__ = [
    "Call",
    "Facts",
    "Inputs",
    "Mask",
    "Named",
    "Objective",
    "Target",
    "Tick",
    "TowerCall",
    "WordRegions",
    "activations",
    "as_given",
    "blocks_per_call",
    "calls_of",
    "cosine",
    "counting",
    "cross_entropy",
    "cross_entropy_at",
    "directions_of",
    "draw_seed",
    "embedding_of",
    "estimate",
    "in_parts",
    "layout_of",
    "log_usage",
    "logit_scale",
    "named_layers",
    "one_layer_each",
    "output_tensor",
    "pair_calls",
    "part_of_target",
    "per_call",
    "predicted",
    "prepare",
    "probabilities",
    "progress",
    "references_of",
    "refuse_pairs",
    "require_dual",
    "require_joint",
    "require_one_device",
    "samples_at_once",
    "second_embedding",
    "select",
    "sequence_mask",
    "session_layouts",
    "session_of",
    "statistics_of",
    "target_index",
    "tower_calls",
    "tower_layers",
    "watched",
]
