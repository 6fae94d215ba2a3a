"""Data frames of pandas, polars and the like as X: columns that are not numbers are refused."""

from numbers import Number

import numpy as np
from sklearn.utils._missing import is_pandas_na

# np.bool_ is not registered as a number.
_NUMBERS = (Number, np.bool_)

# Names of columns in an error message.
_MOST_NAMES = 5


def check_frame(X):
    """Raise ValueError if X is a data frame that is not computed, or not of numbers.

    Missing values are left to the check of arrays, as NaN.
    """
    kind = type(X)  # reading an attribute of the frame could compute it
    if hasattr(kind, "collect") and hasattr(kind, "columns") and not hasattr(kind, "shape"):
        raise ValueError(f"X is a {kind.__name__}, which has no rows yet: pass X.collect().")
    if not hasattr(X, "columns") or not hasattr(X, "dtypes") or not hasattr(X, "shape"):
        return
    refused = {
        name: dtype
        for position, (name, dtype) in enumerate(zip(X.columns, X.dtypes, strict=True))
        if not _is_of_numbers(X, position, name, dtype)
    }
    if refused:
        columns = [f"{name!r} ({dtype})" for name, dtype in refused.items()]
        shown = ", ".join(columns[:_MOST_NAMES])
        if len(columns) > _MOST_NAMES:
            shown += f" and {len(columns) - _MOST_NAMES} more"
        raise ValueError(
            f"X must have numbers in all columns, got {shown}. Encode these columns or leave them "
            f"out before, for example by a ColumnTransformer with OneHotEncoder."
        )


def _is_of_numbers(X, position, name, dtype):
    kind = getattr(dtype, "kind", None)
    if kind is None:  # a type of polars
        return dtype.is_numeric() or str(dtype) in ("Boolean", "Null")
    if kind != "O":
        return kind in "biufc"  # complex numbers have a sentence of scikit-learn
    if str(dtype) == "category":  # of numbers as well: their distances have no meaning
        return False
    values = X.iloc[:, position]
    if not all(
        value is None or is_pandas_na(value) or isinstance(value, _NUMBERS) for value in values
    ):
        return False
    if any(map(is_pandas_na, values)):  # which float() refuses
        raise ValueError(
            f"X has missing values (NA) in column {name!r} of type {dtype}: give the column a "
            f"type of numbers, such as Float64, and fill them, for example by SimpleImputer."
        )
    return True
