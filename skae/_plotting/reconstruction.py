"""ReconstructionDisplay: rows of X above their reconstructions."""

from collections.abc import Mapping, Sequence
from math import isqrt, prod
from numbers import Integral
from typing import Any, Self, TypedDict, Unpack

import numpy as np

from .._data.validation import dense_array, flat_rows
from .axes import Display, Lines, Maps, Mosaic, Pictures, check_count

_KINDS = ("auto", "image", "signal", "map")

# More rows would not fit into a figure or, if they are wide, into memory.
_MOST_ROWS = 100

_N_BIGRAMS = 256 * 256


class Drawing(TypedDict, total=False):
    """Keywords of `plot`."""

    difference: bool
    n_columns: int | None
    ax: Any
    image_kw: Mapping[str, Any] | None
    difference_kw: Mapping[str, Any] | None
    line_kw: Mapping[str, Any] | None


class ReconstructionDisplay(Display):
    """Rows of X above their reconstructions, with a column for each sample.

    Below the originals are the reconstructions of an autoencoder, optionally those of other models
    and the difference. Rows are drawn as pictures, as lines (reconstructions over the original in
    grey), or, for 65,536 bigrams, as a map of 256 x 256: first byte down, second byte across.
    Create a display with `from_estimator` or `from_predictions`.

    Parameters
    ----------
    X : ndarray of shape (n_samples, height, width) or (n_samples, height, width, channels)
        The originals; for "signal" of shape (n_samples, length[, channels]).
    X_hat : ndarray
        Their reconstructions, of the same shape.
    references : dict of ndarray, default=None
        Further reconstructions of the same shape, by name.
    kind : {"image", "signal", "map"}, default="image"
        How rows are drawn.
    name : str, default="reconstruction"
        Name of the reconstructions ``X_hat``.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes that contain the plot.
    figure_ : matplotlib Figure
        The figure of the axes.
    artists_ : list of list
        One list for each named row, from the originals down, with one entry for each sample: an
        AxesImage, or for "signal" a list of Line2D, the original first.
    names_ : list of Text
        The names of the rows, repeated for each line of samples.
    difference_limit_ : float or None
        The scale of differences extends from minus to plus this value; None without differences.

    See Also
    --------
    LatentDisplay : Codes of rows.
    VarianceDisplay : Share of the variance that codes explain.

    Notes
    -----
    Originals and reconstructions share one scale. For pictures it extends from the minimum to the
    maximum of the originals; for colours from 0 to 255 (uint8) or from 0 to 1 if the originals are
    within. Values outside of it are clipped. For maps it is an inverse hyperbolic sine: linear up
    to a tenth of the median of non-zero entries, and logarithmic above. Differences are
    ``X_hat - X``; in colour pictures, grey is zero.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.decomposition import PCA
    >>> from skae import DenseAutoencoder, ReconstructionDisplay
    >>> X = load_digits().data
    >>> autoencoder = DenseAutoencoder(8, max_epochs=4, random_state=0).fit(X[:1000])
    >>> display = ReconstructionDisplay.from_estimator(
    ...     autoencoder, X[1500:1510], references={"PCA": PCA(8).fit(X[:1000])}, shape=(8, 8)
    ... )
    >>> [name.get_text() for name in display.names_]
    ['original', 'DenseAutoencoder', 'PCA']
    """

    def __init__(
        self,
        X: Any,
        X_hat: Any,
        *,
        references: Mapping[str, Any] | None = None,
        kind: str = "image",
        name: str = "reconstruction",
    ) -> None:
        self.X = X
        self.X_hat = X_hat
        self.references = references
        self.kind = kind
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        references: Mapping[str, Any] | None = None,
        shape: Sequence[int] | None = None,
        kind: str = "auto",
        name: str | None = None,
        **drawing: Unpack[Drawing],
    ) -> Self:
        """Draw rows and their reconstructions by a fitted model.

        Parameters
        ----------
        estimator : object
            Fitted model with `transform` and `inverse_transform`.
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
            The rows to draw, 100 at most; or an array of pictures as the estimator takes them.
        references : dict of objects, default=None
            Other fitted models, by name. They take flat rows.
        shape : tuple of int, default=None
            Shape of the picture in a flat row, channels last: ``(28, 28)``, ``(32, 32, 3)``. None
            uses the estimator's ``input_shape_``, or else the axes of X; without either, rows are
            not pictures.
        kind : {"auto", "image", "signal", "map"}, default="auto"
            How to draw rows: as pictures, as lines (channels last), or as square maps of
            frequencies. "auto" is "image" if the shape has two or three axes, "map" for 65,536
            columns, else "signal".
        name : str, default=None
            Name of the reconstructions; None for the class name of the estimator.
        **drawing : dict
            Keywords of `plot`, such as ``ax``.

        Returns
        -------
        display : ReconstructionDisplay
            The drawn display.
        """
        cls._begin("from_estimator", drawing)
        references, name = _by_name(references), name or type(estimator).__name__
        X = X if hasattr(X, "shape") else np.asarray(X)
        _check_n_rows(X)
        flat = flat_rows(X)
        takes = [(estimator, X), *((model, flat) for model in references.values())]
        reconstructed = [model.inverse_transform(model.transform(rows)) for model, rows in takes]
        arrays = [dense_array(rows) for rows in (X, *reconstructed)]
        if shape is None and hasattr(estimator, "input_shape_"):
            arrays, shape, kind = as_fitted(arrays, estimator, kind)
        return cls.from_predictions(
            *arrays[:2],
            references=dict(zip(references, arrays[2:], strict=True)),
            shape=shape,
            kind=kind,
            name=name,
            **drawing,
        )

    @classmethod
    def from_predictions(
        cls,
        X: Any,
        X_hat: Any,
        *,
        references: Mapping[str, Any] | None = None,
        shape: Sequence[int] | None = None,
        kind: str = "auto",
        name: str = "reconstruction",
        **drawing: Unpack[Drawing],
    ) -> Self:
        """Draw rows and their reconstructions.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_features)
            The rows to draw, 100 at most; or an array of pictures, channels last.
        X_hat : {array-like, sparse matrix or array}
            Their reconstructions, flat or not.
        references : dict of arrays, default=None
            Further reconstructions, by name.
        shape : tuple of int, default=None
            Shape of the picture in a flat row, channels last; None takes the axes of X.
        kind : {"auto", "image", "signal", "map"}, default="auto"
            How to draw a row, as in `from_estimator`.
        name : str, default="reconstruction"
            What to call ``X_hat``.
        **drawing : dict
            Keywords of `plot`, such as ``ax``.

        Returns
        -------
        display : ReconstructionDisplay
            The drawn display.
        """
        cls._begin("from_predictions", drawing)
        X = X if hasattr(X, "shape") else np.asarray(X)
        _check_n_rows(X)
        X = dense_array(X)
        shape = X.shape[1:] if shape is None else shape
        kind, shape = resolve_kind(kind, shape, prod(X.shape[1:]))
        references = _by_name(references)
        if name == "original":
            raise ValueError("name='original' must differ from that of the rows of X.")
        if {"original", name} & set(references):
            raise ValueError(
                f"references must have names other than 'original' and {name!r}, got "
                f"{', '.join(map(repr, references))}."
            )
        return cls(
            _shaped(X, "X", len(X), shape),
            _shaped(X_hat, "X_hat", len(X), shape),
            references={
                key: _shaped(rows, f"references[{key!r}]", len(X), shape)
                for key, rows in references.items()
            },
            kind=kind,
            name=name,
        ).plot(**drawing)

    def plot(
        self,
        *,
        difference: bool = False,
        n_columns: int | None = None,
        ax: Any = None,
        image_kw: Mapping[str, Any] | None = None,
        difference_kw: Mapping[str, Any] | None = None,
        line_kw: Mapping[str, Any] | None = None,
    ) -> Self:
        """Draw the display.

        Parameters
        ----------
        difference : bool, default=False
            Whether to draw ``X_hat - X``.
        n_columns : int, default=None
            Maximum number of samples side by side; None for as many as fit.
        ax : matplotlib Axes, default=None
            Axes to draw in; None for a new figure.
        image_kw : dict, default=None
            Keywords of `imshow` for originals and reconstructions.
        difference_kw : dict, default=None
            Keywords of `imshow`, or of `plot` for "signal", for differences.
        line_kw : dict, default=None
            Keywords of `plot` for reconstructions.

        Returns
        -------
        self : ReconstructionDisplay
            The display.
        """
        if n_columns is not None:
            check_count(n_columns=n_columns)
        new_figure = ax is None
        ax = self._take_axes(ax)
        rows = {"original": self.X, self.name: self.X_hat, **(self.references or {})}
        names = list(rows)
        self.difference_limit_ = None
        if difference:
            error = np.subtract(self.X_hat, self.X, dtype=float)
            self.difference_limit_ = float(np.nanmax(np.abs(error)))
            names.append(f"difference \N{PLUS-MINUS SIGN}{self.difference_limit_:.3g}")
        if self.kind == "signal":
            painter = Lines(list(rows.values()), line_kw, difference_kw)
        else:
            painter = (Maps if self.kind == "map" else Pictures)(self.X, image_kw, difference_kw)
        mosaic = Mosaic(len(self.X), names, painter.cell, n_columns)
        self.artists_ = [
            painter.draw_row(mosaic, ax, row, X) for row, X in enumerate(rows.values())
        ]
        if difference:
            limit = self.difference_limit_
            self.artists_.append(painter.draw_differences(mosaic, ax, len(rows), error, limit))
        self.names_ = mosaic.add_names(ax, equal_aspect=painter.equal_aspect, new_figure=new_figure)
        return self


def _by_name(references):
    if not isinstance(references, Mapping | None):
        raise TypeError(
            f"references must be a dict, name: model or rows, got {type(references).__name__}."
        )
    return references or {}


def _check_n_rows(X):
    if not 1 <= X.shape[0] <= _MOST_ROWS:
        raise ValueError(
            f"X has {X.shape[0]} rows, but a figure has a column for each: pass 1 to "
            f"{_MOST_ROWS}, such as X[:10]."
        )


def as_fitted(arrays, estimator, kind):
    """Arrays with channels last, their shape and kind, for a fitted estimator's layout."""
    shape, axis = estimator.input_shape_, estimator.channel_axis
    if axis is None:
        return arrays, shape, kind
    arrays = [np.moveaxis(X.reshape(-1, *shape), axis % len(shape) + 1, -1) for X in arrays]
    return arrays, arrays[0].shape[1:], "signal" if len(shape) == 2 and kind == "auto" else kind


def resolve_kind(kind, shape, n_features):
    """The kind that "auto" stands for, and the shape; ValueError if the columns do not suit it."""
    if kind not in _KINDS:
        raise ValueError(f"kind={kind!r} must be one of {', '.join(map(repr, _KINDS))}.")
    most = 2 if kind == "signal" else 3
    if not 1 <= np.size(shape) <= most or not all(
        isinstance(n, Integral) and n > 0 for n in np.atleast_1d(shape)
    ):
        raise ValueError(
            f"shape={shape} must be a tuple of at most {most} positive integers, the axes of a row."
        )
    shape = tuple(np.atleast_1d(shape).tolist())
    if kind == "auto":
        by_columns = "map" if n_features == _N_BIGRAMS else "signal"
        kind = "image" if len(shape) > 1 else by_columns
    if kind == "map" and isqrt(n_features) ** 2 != n_features:
        raise ValueError(f"kind='map' needs a square number of columns, got {n_features}.")
    if kind == "image" and len(shape) < 2:
        raise ValueError(f"kind='image' needs shape=(height, width[, channels]), got {shape}.")
    return kind, (isqrt(n_features),) * 2 if kind == "map" else shape


def _shaped(X, name, n_samples, shape):
    X = dense_array(X)
    if X.size != n_samples * prod(shape) or len(X) != n_samples:
        raise ValueError(f"{name} has shape {X.shape}, which is not {n_samples} rows of {shape}.")
    return X.reshape(n_samples, *shape)
