# SPDX-License-Identifier: BSD-3-Clause
"""What a handle answers when NumPy, or Python's operators, ask it for its array."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from . import _core


class NumpyWords(_core.BufferOfArray, NDArrayOperatorsMixin):
    """Local in all its parts. Items, operators, ufuncs and buffers of an attribute `array`."""

    __slots__ = ()

    array: np.ndarray

    def __getitem__(self, index: Any) -> Any:
        return self.array[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        self.array[index] = value

    def __len__(self) -> int:
        return len(self.array)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.array)

    def __contains__(self, value: Any) -> bool:
        return value in self.array

    def __bool__(self) -> bool:
        return bool(self.array)

    def __int__(self) -> int:
        return int(self.array)

    def __float__(self) -> float:
        return float(self.array)

    def __complex__(self) -> complex:
        return complex(self.array)

    def __index__(self) -> int:
        return self.array.__index__()

    def __format__(self, spec: str) -> str:
        return format(self.array, spec) if spec else str(self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy:
            return np.array(self.array, dtype=dtype)
        if dtype is None or np.dtype(dtype) == self.array.dtype:
            return self.array
        if copy is False:
            raise ValueError(f"{self!r} can't be seen as {dtype} without a copy")
        return self.array.astype(dtype)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        def plain(x: Any) -> Any:
            return x.array if isinstance(x, NumpyWords) else x

        out = kwargs.get("out", ())
        kwargs = {key: plain(value) for key, value in kwargs.items()}
        if out:
            kwargs["out"] = tuple(plain(x) for x in out)
        result = getattr(ufunc, method)(*map(plain, inputs), **kwargs)
        if len(out) == 1 and isinstance(out[0], NumpyWords):
            return out[0]
        return result

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self.array.__dlpack__(**kwargs)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()


def _refuse(name: str) -> Any:
    def operator(self: NumpyWords, other: Any) -> Any:
        raise TypeError(
            "in place on the whole handle, every rank of the node would do it again: write `a.local …=` for this "
            "rank's rows, or `a.array …=` on one rank"
        )

    operator.__name__ = name
    return operator


for _name in "add sub mul matmul truediv floordiv mod pow lshift rshift and xor or".split():
    setattr(NumpyWords, f"__i{_name}__", _refuse(f"__i{_name}__"))
