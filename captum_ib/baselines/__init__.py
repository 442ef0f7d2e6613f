"""Comparators that Captum lacks, under the same contract as the bottleneck methods."""

from captum_ib.baselines.attention_gradcam import AttentionGradCAM
from captum_ib.baselines.attention_rollout import AttentionRollout
from captum_ib.baselines.generic_attention import GenericAttention
from captum_ib.baselines.transformer_attribution import TransformerAttribution

__all__ = ["AttentionGradCAM", "AttentionRollout", "GenericAttention", "TransformerAttribution"]
