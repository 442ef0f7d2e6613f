"""Comparators that Captum lacks, under the same contract as the bottleneck methods."""

from captum_ib.baselines.attention_gradcam import AttentionGradCAM
from captum_ib.baselines.attention_rollout import AttentionRollout
from captum_ib.baselines.beyond_intuition import BeyondIntuition
from captum_ib.baselines.fast_ig import FastIG
from captum_ib.baselines.generic_attention import GenericAttention
from captum_ib.baselines.iia import IIA
from captum_ib.baselines.layer_gradcam import LayerGradCAM
from captum_ib.baselines.mfaba import MFABA
from captum_ib.baselines.rise import RISE
from captum_ib.baselines.score_cam import ScoreCAM
from captum_ib.baselines.transformer_attribution import TransformerAttribution
from captum_ib.baselines.vit_cx import ViTCX

__all__ = [
    "IIA",
    "MFABA",
    "RISE",
    "AttentionGradCAM",
    "AttentionRollout",
    "BeyondIntuition",
    "FastIG",
    "GenericAttention",
    "LayerGradCAM",
    "ScoreCAM",
    "TransformerAttribution",
    "ViTCX",
]
