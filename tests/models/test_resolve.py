"""Layers by name, tied ones by each of theirs, and a default that the method can take."""

import pytest
import torch
from timm.models.densenet import DenseNet as TimmDenseNet
from torch import nn
from torchvision.models import DenseNet

from captum_ib.attr import NIB
from captum_ib.models.layers import resolve_layer


class Tied(nn.Module):
    """Its trunk goes by two names, as backbones in wrappers do."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(3, 4), nn.Softplus())
        self.features = self.trunk
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.features(x))


def test_a_tied_layer_goes_by_each_of_its_names():
    model, x = Tied(), torch.rand(2, 3)
    assert resolve_layer(model, "trunk.0") == ("trunk.0", model.trunk[0])
    assert resolve_layer(model, "features.0") == ("features.0", model.trunk[0])
    first, second = (NIB(model, name).attribute(x, target=0) for name in ("trunk.1", "features.1"))
    assert torch.equal(first, second)


@pytest.mark.parametrize("build", [DenseNet, TimmDenseNet])
def test_nib_takes_the_dense_block_where_its_layers_take_a_list(build):
    torch.manual_seed(0)
    model = build(growth_rate=4, block_config=(2, 2, 2, 2), num_classes=3).eval()
    x = torch.rand(2, 3, 64, 96)
    nib = NIB(model)
    assert nib.layers == [("features.denseblock4", model.features.denseblock4)]
    found, delta = nib.attribute(
        x, target=1, n_steps=200, method="gausslegendre", power=4, return_convergence_delta=True
    )
    assert found.shape == (2, 1, 2, 3)
    assert delta.abs().max() < 1e-3 * found.flatten(1).sum(1).abs().max().clamp_min(1)
