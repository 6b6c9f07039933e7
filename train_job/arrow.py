"""PyArrow, with an error that names the missing extra where it is not installed."""

from transferlite.errors import MissingExtraError

try:
    import pyarrow as pa
    import pyarrow.compute as pc
except ModuleNotFoundError:
    raise MissingExtraError("pyarrow", "train") from None

__all__ = ["pa", "pc"]
