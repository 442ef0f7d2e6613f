"""Stand-ins for Captum's test models, which Captum 0.7 does not ship: the same layers in order."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn


def BasicModel_ConvNet() -> nn.Module:
    model = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 2, 3),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(2, 4, 3),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flat=nn.Flatten(),
            fc1=nn.Linear(4, 8),
            relu3=nn.ReLU(),
            fc2=nn.Linear(8, 10),
            softmax=nn.Softmax(dim=1),
        )
    )
    nn.init.ones_(model.fc1.weight)
    nn.init.ones_(model.fc2.weight)
    return model


def BasicModel_MultiLayer() -> nn.Module:
    model = nn.Sequential(
        OrderedDict(
            linear0=nn.Linear(3, 3),
            linear1=nn.Linear(3, 4),
            relu=nn.ReLU(),
            linear2=nn.Linear(4, 2),
        )
    )
    nn.init.eye_(model.linear0.weight)
    nn.init.zeros_(model.linear0.bias)
    nn.init.ones_(model.linear1.weight)
    nn.init.ones_(model.linear2.weight)
    model.linear1.bias.data = torch.tensor([-10.0, 1.0, 1.0, 1.0])
    model.linear2.bias.data = torch.tensor([-1.0, 1.0])
    return model
