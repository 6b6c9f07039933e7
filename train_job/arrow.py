"""Arrow, or how to get it."""

from transferlite.errors import MissingExtraError

try:
    import pyarrow as pa
    import pyarrow.compute as pc
except ModuleNotFoundError:
    raise MissingExtraError("pyarrow", "train") from None

__all__ = ["pa", "pc"]
