"""The same samples in another order, which is drawn once and for all from a seed."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np

from captum_ib.benchmark.data.samples import Dataset, Sample


class Shuffled:
    """A data set whose samples come in the order of a hash of seed and place.

    So the first n are a fair draw, the same on every machine and with every version of everything.

    Args:
        data: the samples; 8 bytes are held for each.
        seed: of the order.

    >>> from captum_ib.benchmark.data.scenes import SceneData
    >>> class Ten(SceneData):
    ...     def __len__(self):
    ...         return 10
    >>> data = Shuffled(Ten(7, (32, 32), False, (1, 4)), seed=0)
    >>> data.id(0), data.id(1)
    ('scene-7-0', 'scene-7-6')
    """

    def __init__(self, data: Dataset, seed: int) -> None:
        keys = np.fromiter(
            (_key(seed, index) for index in range(len(data))), dtype=np.uint64, count=len(data)
        )
        self.data, self._order = data, np.argsort(keys, kind="stable")

    def __len__(self) -> int:
        return len(self.data)

    def id(self, index: int) -> str:
        """The id that the sample has in any order."""
        return self.data.id(self._place(index))

    def read(self, index: int) -> Sample:
        """A sample; errors as those of the data set itself."""
        return self.data.read(self._place(index))

    def _place(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        return int(self._order[index])


def _key(seed: int, index: int) -> int:
    return int.from_bytes(blake2b(f"{seed}/{index}".encode(), digest_size=8).digest(), "big")


def ordered(data: Dataset, seed: int | None) -> Dataset:
    """The samples shuffled with a seed, or as they are without one.

    Raises:
        ValueError: there are no samples.
    """
    if not len(data):
        raise ValueError("there are no samples")
    return data if seed is None else Shuffled(data, seed)
