"""Comparators that Captum lacks, under the same contract as the bottleneck methods.

What their ``attribute`` has in common is said here, once; the methods say what is particular.

- ``inputs``: tensor or tuple of tensors, samples on axis 0. Methods that change the inputs take
  one: images ``(N, C, H, W)``, token ids ``(N, T)`` or embeddings ``(N, T, C)``. For a
  :class:`~captum_ib.models.dual_encoder.DualEncoder` a pair, and so is the result.
- ``baselines``: a number, or a tensor that broadcasts to the inputs (default 0, the mean colour of
  a normalised image); for token ids an id (default: the embedding 0). For a pair also one per
  tower.
- ``target``: output to explain, in any of Captum's forms; none for a ``DualEncoder``.
- ``additional_forward_args``: passed on to ``forward_func`` behind the inputs.
- ``start_layer``: the first attention layer of a product; negative counts from the end.
- ``readout``: index of the token that is read, for all samples or one each; default: the tokens
  that the output depends on behind the last attention.
- ``attribute_to_layer_input``: take the layer's input instead of its output.
- ``relu_attributions``: drop negative values.
- ``score``: f, the softmax probability of the target (``"probability"``) or the ``"output"``
  itself; one output per sample is taken as it is.
- ``layout``: where the tokens lie, if it can't be inferred; for a pair also one per tower.
- ``internal_batch_size``: samples per forward pass; default all.
- ``perturbations_per_eval``: masks per forward pass; rows are this times N.
- ``seed``: of what is drawn; ``None`` takes one from torch's global generator.

They return a map ``(N, 1, h, w)``, or ``(N, T)`` with padding 0 for sequences, and raise
``ValueError`` for NaN, a target or setting out of range and a layout that can't be told,
``TypeError`` for arguments of a wrong type.
"""

from captum_ib.baselines.attention_gradcam import AttentionGradCAM
from captum_ib.baselines.attention_rollout import AttentionRollout
from captum_ib.baselines.attn_lrp import AttnLRP
from captum_ib.baselines.beyond_intuition import BeyondIntuition
from captum_ib.baselines.clip_surgery import CLIPSurgery
from captum_ib.baselines.ex_clip import ExCLIP
from captum_ib.baselines.fast_ig import FastIG
from captum_ib.baselines.fixlip import FIxLIP
from captum_ib.baselines.generic_attention import GenericAttention
from captum_ib.baselines.grad_eclip import GradECLIP
from captum_ib.baselines.iia import IIA
from captum_ib.baselines.kernel_shap import KernelSHAP
from captum_ib.baselines.layer_gradcam import LayerGradCAM
from captum_ib.baselines.legrad import LeGrad
from captum_ib.baselines.libra_grad import LibraGrad, libra
from captum_ib.baselines.mask_clip import MaskCLIP
from captum_ib.baselines.mfaba import MFABA
from captum_ib.baselines.rise import RISE
from captum_ib.baselines.saliency import Saliency
from captum_ib.baselines.score_cam import ScoreCAM
from captum_ib.baselines.sobol_attribution import SobolAttribution
from captum_ib.baselines.token_tm import TokenTM
from captum_ib.baselines.transformer_attribution import TransformerAttribution
from captum_ib.baselines.vit_cx import ViTCX

__all__ = [
    "IIA",
    "MFABA",
    "RISE",
    "AttentionGradCAM",
    "AttentionRollout",
    "AttnLRP",
    "BeyondIntuition",
    "CLIPSurgery",
    "ExCLIP",
    "FIxLIP",
    "FastIG",
    "GenericAttention",
    "GradECLIP",
    "KernelSHAP",
    "LayerGradCAM",
    "LeGrad",
    "LibraGrad",
    "MaskCLIP",
    "Saliency",
    "ScoreCAM",
    "SobolAttribution",
    "TokenTM",
    "TransformerAttribution",
    "ViTCX",
    "libra",
]
