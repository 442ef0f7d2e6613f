"""Layers by name: tied layers have several names, and each of them is a layer."""

import torch
from torch import nn

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
