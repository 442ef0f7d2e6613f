"""Load timm models: weights as safetensors, preprocessing and labels from timm's configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image
from torch import Tensor, nn

from captum_ib.checks import nearest
from captum_ib.evidence import size_of
from captum_ib.loading.hubs import building, pickled, safetensors_file, wrapped
from captum_ib.loading.loaded import LoadedModel, Options
from captum_ib.rgb import as_rgb


def load_timm(name: str, options: Options) -> LoadedModel:
    """A timm classifier by name; errors as in :func:`captum_ib.loading.load.load`."""
    import timm

    if not timm.is_model(name):
        near = nearest(name, timm.list_models())
        raise ValueError(f"timm has no model {name!r}; near: {near}")
    if not options.pretrained:
        return wrap_timm(f"timm:{name}", timm.create_model(name, pretrained=False))
    config = _timm_config(name)
    file = config.hf_hub_id and safetensors_file(
        config.hf_hub_id, "model.safetensors", f"timm:{name}", options.revision
    )
    if file:
        # custom_load is meant for the file in another format that this one stands in for.
        overlay = {"file": file, "custom_load": False}
    elif options.allow_pickle:
        overlay = (
            {"hf_hub_id": f"{config.hf_hub_id}@{options.revision}"} if options.revision else {}
        )
    else:
        raise ValueError(pickled(f"timm:{name}"))
    with building(f"timm:{name}"):
        model = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
    return wrap_timm(f"timm:{name}", model)


def _timm_config(name: str) -> Any:
    """What timm knows of the model's trained weights."""
    import timm

    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError:  # an unknown tag
        config = None
    if config is None or not (config.hf_hub_id or config.url):
        tags = ", ".join(timm.list_pretrained(f"{name.split('.')[0]}*")[:3]) or "none"
        raise ValueError(f"timm has no trained weights for {name!r}; names that have: {tags}")
    return config


def wrap_timm(
    name: str,
    model: nn.Module,
    labels: Sequence[str] | None = None,
    left_out: tuple[str, ...] = (),
) -> LoadedModel:
    """A timm model with the preprocessing that its configuration states."""
    from timm.data.config import resolve_model_data_config
    from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset
    from timm.data.transforms_factory import create_transform

    config = resolve_model_data_config(model)
    built_for = size_of(model)  # which may be another than its trained weights had
    if built_for is not None:
        config["input_size"] = (config["input_size"][0], *built_for)
    transform: Any = create_transform(**config, is_training=False)
    size = config["input_size"]

    def preprocess(image: Image.Image) -> Tensor:
        return transform(as_rgb(image))

    subset = infer_imagenet_subset(model)
    if labels is None and subset:
        labels = list(ImageNetInfo(subset).label_descriptions())
    return wrapped(
        name,
        model,
        preprocess,
        (size[1], size[2]),
        config["mean"],
        config["std"],
        labels=labels,
        left_out=left_out,
    )
