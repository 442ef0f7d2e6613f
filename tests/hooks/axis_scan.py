"""The layouts that the library finds, against where a change of the image is seen.

``python -m tests.hooks.axis_scan`` prints a table for all models; names choose some.

The truth is found without looking at any operation: a part of the image is changed, and the map of
the layer's change must be largest at that part; and where the model takes images of another height
and width, the axes that follow them must be the rows and the columns.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from captum_ib import TokenLayout
from captum_ib.hooks import AxisTracker

PLACES = ((0.05, 0.2, 0.75, 0.95), (0.75, 0.95, 0.3, 0.45), (0.4, 0.55, 0.05, 0.2))
"""Parts of the image that are changed: rows from, to, columns from, to, as shares."""

Size = tuple[int, int]
SIZES: tuple[Size, ...] = (
    (96, 160), (128, 128), (192, 64), (64, 256), (256, 192), (224, 224), (160, 320), (288, 96),
)  # fmt: skip
"""Of images, wide and high: among them as many rows or columns as channels, at some layer."""
Values = dict[str, Tensor]


@dataclass(frozen=True)
class Candidate:
    """A model of the scan.

    Attributes:
        name: of timm's or, with ``tv:`` in front, torchvision's.
        sizes: of images that it takes.
        built: it is built for images of one size, ``img_size``.
        fixed: it takes only images of the size that it was built for.
    """

    name: str
    sizes: tuple[Size, ...] = SIZES
    built: bool = False
    fixed: bool = False

    def model(self, size: Size = (224, 224)) -> nn.Module:
        torch.manual_seed(0)
        settings = {"img_size": size} if self.built else {}
        if self.name.startswith("tv:"):
            import torchvision

            make: Callable[..., nn.Module] = getattr(torchvision.models, self.name[3:])
            return filled(make(weights=None, num_classes=5))
        import timm

        return filled(timm.create_model(self.name, num_classes=5, **settings))


def filled(model: nn.Module) -> nn.Module:
    """The model without weights of 0: behind them no change is seen."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.abs().max() < 1e-3:  # the last normalisation of a branch, a layer scale
                parameter.normal_(0.3 if parameter.ndim == 1 else 0.0, 0.1)
    return model.eval()


@dataclass
class Counts:
    """How many layers' layouts were right, asked for, or wrong."""

    right: int = 0
    asked: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        numbers = (self.right, self.asked, len(self.wrong))
        return " ".join(f"{number:6}" for number in (sum(numbers), *numbers))


class OwnPosition(TorchFunctionMode):
    """Attention that looks at its own position only.

    Random attention looks everywhere, so a change is seen everywhere; the axes stay what they are.
    What mixes the heads of such attention (CaiT) is left without its bias, which looks everywhere.
    """

    def __init__(self) -> None:
        super().__init__()
        self._own: Any = WeakTensorKeyDictionary()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            query, _, value = args[:3]
            if value.shape == query.shape:
                return value
            return query if query.shape[-1] == value.shape[-1] else func(*args, **kwargs)
        if func is F.multi_head_attention_forward:
            return args[0], None
        own = bool(args) and isinstance(args[0], Tensor) and args[0] in self._own
        if own and func is F.linear:
            args, kwargs = args[:2], {}
        result = func(*args, **kwargs)
        if not isinstance(result, Tensor):
            return result
        if func in (F.softmax, torch.softmax, Tensor.softmax) and result.ndim > 2:
            result = nearest(*result.shape[-2:]).expand_as(result)
            own = True
        if own and func not in (Tensor.matmul, Tensor.__matmul__, torch.matmul, torch.bmm):
            self._own[result] = True
        return result


def nearest(queries: int, keys: int) -> Tensor:
    """Weights ``(queries, keys)`` with which every query looks at the key in its place.

    Grids of two resolutions (LeViT, pooled keys) are square ones, as their images are; other
    numbers of keys are no grid, and are all looked at.
    """
    if queries == keys:
        return torch.eye(queries)
    rows, others = math.isqrt(queries), math.isqrt(keys)
    if min(rows, others) < 2 or rows**2 != queries or others**2 != keys:
        return torch.full((queries, keys), 1.0 / keys)
    place = torch.arange(rows) * others // rows
    return torch.eye(keys)[(place[:, None] * others + place).flatten()]


def values_of(
    model: nn.Module, pixels: Tensor, tracker: AxisTracker | None = None
) -> tuple[Values, dict[str, Any]]:
    """What every module gives and takes that runs once, and what is known of its axes."""
    values: Values = {}
    kept: dict[str, Tensor] = {}
    runs: dict[str, int] = {}

    def after(name: str) -> Callable[..., Any]:
        def hook(module: nn.Module, args: tuple, output: Any) -> Any:
            runs[name] = runs.get(name, 0) + 1
            if not isinstance(output, Tensor) or not output.is_floating_point():
                return None
            new = output.clone()
            values[name], kept[name] = output.detach().clone(), new
            if args and isinstance(args[0], Tensor) and args[0].is_floating_point():
                kept[f"{name} (input)"] = args[0]
            return new

        return hook

    def before(name: str) -> Callable[..., Any]:
        def hook(module: nn.Module, args: tuple) -> None:
            if args and isinstance(args[0], Tensor) and args[0].is_floating_point():
                values[f"{name} (input)"] = args[0].detach().clone()

        return hook

    with ExitStack() as stack, torch.no_grad():
        for name, module in model.named_modules():
            if name:
                stack.callback(module.register_forward_hook(after(name)).remove)
                stack.callback(module.register_forward_pre_hook(before(name)).remove)
        stack.enter_context(tracker if tracker is not None else OwnPosition())
        model(pixels)
    once = {name: v for name, v in values.items() if runs.get(name.removesuffix(" (input)")) == 1}
    axes = {n: tracker.settled(tracker.of(t)) for n, t in kept.items()} if tracker else {}
    return once, axes


def changed(pixels: Tensor, place: tuple[float, float, float, float]) -> Tensor:
    """The image with a part made brighter."""
    height, width = pixels.shape[2:]
    top, bottom, left, right = place
    pixels = pixels.clone()
    rows = slice(int(top * height), int(bottom * height))
    pixels[:, :, rows, int(left * width) : int(right * width)] += 3.0
    return pixels


def hits(layout: TokenLayout, before: Tensor, after: list[Tensor]) -> int:
    """For how many pairs of places each one changes more where it is than where the other is.

    What mixes all positions, as attention of random weights does, changes everywhere: only the
    difference between two places says where they are.
    """
    changes = [layout.attribution((one - before).abs().double())[0, 0] + 1e-12 for one in after]
    count = 0
    for one, other in ((0, 1), (1, 2), (2, 0)):
        more = (changes[one] / changes[other]).log()
        count += bool(_mean(more, PLACES[one]) > _mean(more, PLACES[other]))
    return count


def _mean(values: Tensor, place: tuple[float, float, float, float]) -> Tensor:
    """The mean over the cells of a place, at least one."""
    rows, columns = values.shape
    top, left = int(place[0] * rows), int(place[2] * columns)
    bottom, right = int(place[1] * rows), int(place[3] * columns)
    return values[top : max(top, bottom) + 1, left : max(left, right) + 1].mean()


def follows(layout: TokenLayout, before: Tensor, taller: Tensor, wider: Tensor) -> bool | None:
    """Whether rows follow the height, columns the width, and channels neither.

    Returns:
        ``None`` where both agree as far as they go, and one size did not change.
    """
    rows = 2 if layout.kind == "nchw" else 1
    grown = []
    for other in (taller, wider):
        sizes = zip(before.shape, other.shape, strict=True)
        grown.append({axis for axis, (old, new) in enumerate(sizes) if old != new})
    if grown == [{rows}, {rows + 1}]:
        return True
    return None if grown[0] <= {rows} and grown[1] <= {rows + 1} else False


def scanned(candidate: Candidate) -> Counts:
    """Every module's output and input of a model at its sizes of images."""
    counts = Counts()
    for size in candidate.sizes:
        model = candidate.model(size)
        pixels = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
        axes = values_of(model, pixels, AxisTracker())[1]
        before = values_of(model, pixels)[0]
        after = [values_of(model, changed(pixels, place))[0] for place in PLACES]
        others = [] if candidate.fixed else other_sizes(model, size)
        for name, activation in before.items():
            if activation.shape[0] != 1 or activation.ndim < 3 or name not in axes:
                continue
            try:
                layout = TokenLayout.infer(
                    model, nn.Identity(), activation, (pixels,), name, axes[name]
                )
            except ValueError:
                counts.asked += 1
                continue
            reason = wrong(
                layout, activation, [one[name] for one in after], [one[name] for one in others]
            )
            counts.right += reason is None
            counts.wrong += (
                [] if reason is None else [f"{name} {tuple(activation.shape)}: {reason}"]
            )
    return counts


def other_sizes(model: nn.Module, size: Size) -> list[Values]:
    """A pass with a taller and one with a wider image."""
    sizes = ((size[0] + 64, size[1]), (size[0], size[1] + 64))
    return [values_of(model, torch.rand(1, 3, *one))[0] for one in sizes]


def wrong(
    layout: TokenLayout, before: Tensor, after: list[Tensor], others: list[Tensor]
) -> str | None:
    """What shows that a layout is wrong, if anything does."""
    if not layout.spatial:
        return f"{layout.kind} of an image"
    sized = follows(layout, before, *others) if before.ndim == 4 and others else None
    if sized is False:
        return f"{layout.kind}, but {[tuple(one.shape) for one in others]} for other sizes"
    unseen = all(torch.equal(one, before) for one in after)
    # Deep convolutions see all of the image; the sizes have shown what their axes are. Fewer than
    # five cells a side are larger than the places.
    if sized or unseen or min(layout.grid_of(before)) < 5:
        return None
    found = hits(layout, before, after)
    return None if found == 3 else f"{layout}: {found} of 3 places"


ANY = (
    "resnet18 resnetv2_50 densenet121 regnety_002 regnetx_002 mobilenetv2_050 "
    "mobilenetv3_small_050 tf_efficientnet_lite0 efficientnet_lite0 convnext_atto "
    "convnextv2_atto ghostnet_050 mnasnet_small rexnet_100 hrnet_w18_small dla34 vgg11 repvgg_a0 "
    "resnest14d ese_vovnet19b_dw poolformerv2_s12 mobilenetv4_conv_small_050 "
    "starnet_s1 tv:shufflenet_v2_x0_5 tv:squeezenet1_1 tv:mnasnet0_5 tv:convnext_tiny "
    "pvt_v2_b0 edgenext_xx_small mobilevitv2_050 tv:swin_t focalnet_tiny_srf efficientvit_b0 "
    "fastvit_t8 mobilevit_xxs caformer_s18 mobilenetv4_hybrid_medium repvit_m0_9"
)
"""Take images of any size."""
BUILT = (
    "vit_tiny_patch16_224 deit_tiny_distilled_patch16_224 eva02_tiny_patch14_224 "
    "vit_small_patch14_reg4_dinov2 twins_pcpvt_small beit_base_patch16_224 "
    "swin_tiny_patch4_window7_224 cait_xxs24_224"
)
"""Are built for images of one size, whichever it is."""
FIXED = (
    "xcit_nano_12_p16_224 nest_tiny coatnet_nano_rw_224 efficientformer_l1 hiera_tiny_224 "
    "mixer_s32_224 resmlp_12_224 gmlp_ti16_224 pit_ti_224 convit_tiny visformer_tiny "
    "tiny_vit_5m_224 mvitv2_tiny sequencer2d_s gcvit_xxtiny davit_tiny tnt_s_patch16_224 "
    "volo_d1_224 levit_128s twins_svt_small coat_tiny efficientformerv2_s0 efficientvit_m0 "
    "maxxvitv2_nano_rw_256 coatnext_nano_rw_224 tv:vit_b_16 tv:swin_v2_t tv:maxvit_t "
    "edgenext_x_small nextvit_small vit_base_r26_s32_224 shvit_s1 vitamin_small_224"
)
"""Take images of 224×224, or of what their name says. Without SwiftFormer: it adds the mean of all
positions to each, so no change of the image has a place."""


def _fixed(name: str) -> Candidate:
    side = int(name.rpartition("_")[2]) if name[-3:] in ("240", "256") else 224
    return Candidate(name, ((side, side),), fixed=True)


CANDIDATES = (
    *map(_fixed, ("maxvit_pico_rw_256", "swinv2_tiny_window8_256", "crossvit_tiny_240")),
    *map(Candidate, ANY.split()),
    *(Candidate(name, built=True, fixed=True) for name in BUILT.split()),
    *map(_fixed, FIXED.split()),
)


def main(names: list[str]) -> None:
    total = Counts()
    print(f"{'model':34} layers  right  asked  wrong", flush=True)
    for candidate in CANDIDATES:
        if names and candidate.name not in names:
            continue
        try:
            found = scanned(candidate)
        except (RuntimeError, AssertionError, ValueError, TypeError, KeyError) as error:
            print(f"{candidate.name:34} does not run: {error}"[:150], flush=True)
            continue
        print(f"{candidate.name:34} {found}", flush=True)
        for line in found.wrong[:6]:
            print("   ", line, flush=True)
        total.right += found.right
        total.asked += found.asked
        total.wrong += found.wrong
    print(f"{'all':34} {total}")


if __name__ == "__main__":
    main(sys.argv[1:])
