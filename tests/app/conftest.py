"""The offers of the two bundled models, made once for all tests of the page."""

from __future__ import annotations

import pytest
import torch

from captum_ib.app.offers import make_offers


@pytest.fixture(scope="session")
def offers():
    return make_offers([], torch.device("cpu"))


@pytest.fixture(scope="session")
def pair(offers):
    return offers["zoo:clip-scenes"]


@pytest.fixture(scope="session")
def classifier(offers):
    return offers["zoo:vit-scenes"]
