"""Names as papers write them: Captum would put a space before every capital."""

from __future__ import annotations


class Named:
    """Base that goes in front of Captum's: the name of a method is the name of its class."""

    @classmethod
    def get_name(cls) -> str:
        """The name of the class, ``"RISE"`` and not ``"R I S E"``."""
        return cls.__name__
