"""A model by its name or folder, with preprocessing, labels and tokenizer.

>>> from captum_ib import load
>>> load("vit-scenes").kind
'classifier'
"""

from captum_ib.loading.load import load
from captum_ib.loading.loaded import LoadedModel, ModelUnavailableError

__all__ = ["LoadedModel", "ModelUnavailableError", "load"]
