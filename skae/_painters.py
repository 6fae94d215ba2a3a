"""How rows are drawn into the cells of a mosaic: as pictures, as maps of frequencies, as lines.

A painter has one scale for originals and reconstructions.
"""

from functools import partial

import numpy as np

from ._canvas import styled

# Inches of a cell; that of a picture grows with its pixels between two heights.
_SIGNAL, _MAP, _PICTURE = (1.9, 0.8), (2.6, 2.6), (0.8, 1.6)
_PIXELS_PER_INCH = 60


class Pictures:
    """Grey pictures (n, height, width), or coloured ones with a last axis for their channels."""

    in_proportion = True

    def __init__(self, X, image_kw, difference_kw):
        from matplotlib.image import AxesImage

        self._limits = _limits_of_colours(X) if X.ndim == 4 else _limits(X)
        low, high = self._limits
        self._style = styled(AxesImage, image_kw, cmap="gray", vmin=low, vmax=high)
        self._difference = styled(AxesImage, difference_kw, cmap="coolwarm")
        height = np.clip(X.shape[1] / _PIXELS_PER_INCH, *_PICTURE)
        self.cell = height * X.shape[2] / X.shape[1], height

    def row(self, mosaic, ax, row, X):
        """Draw rows of X from left to right."""
        low, high = self._limits
        if X.ndim == 4:
            X = np.clip((X - low) / (high - low), 0, 1)
        return [mosaic.picture(ax, row, i, pixels, **self._style) for i, pixels in enumerate(X)]

    def differences(self, mosaic, ax, row, error, limit):
        """Draw differences on a scale whose ends are minus and plus a limit."""
        limit = limit or 1.0
        if error.ndim == 4:  # no colour says of three channels which is too bright
            error = (error / limit + 1) / 2
        style = {"vmin": -limit, "vmax": limit, **self._difference}
        return [mosaic.picture(ax, row, i, pixels, **style) for i, pixels in enumerate(error)]


class Maps:
    """Square maps of frequencies, most of which are small or zero.

    The scale is an inverse hyperbolic sine: linear up to a tenth of the median of what is not
    zero, and logarithmic beyond.
    """

    in_proportion = True
    cell = _MAP

    def __init__(self, X, image_kw, difference_kw):
        from matplotlib.colors import AsinhNorm
        from matplotlib.image import AxesImage

        sizes = np.abs(X[X != 0])
        self._scale = partial(AsinhNorm, 0.1 * float(np.median(sizes)) if len(sizes) else 1.0)
        norm = self._scale(vmin=0, vmax=float(sizes.max(initial=0)) or 1.0)
        self._style = styled(AxesImage, image_kw, cmap="magma", norm=norm)
        self._difference = styled(AxesImage, difference_kw, cmap="coolwarm")

    def row(self, mosaic, ax, row, X):
        """Draw rows of X from left to right."""
        return [mosaic.picture(ax, row, i, pixels, **self._style) for i, pixels in enumerate(X)]

    def differences(self, mosaic, ax, row, error, limit):
        """Draw differences on a scale whose ends are minus and plus a limit."""
        limit = limit or 1.0
        style = {"norm": self._scale(vmin=-limit, vmax=limit), **self._difference}
        return [mosaic.picture(ax, row, i, pixels, **style) for i, pixels in enumerate(error)]


class Lines:
    """Signals (n, length), or (n, length, channels); reconstructions lie over the originals."""

    in_proportion = False
    cell = _SIGNAL

    def __init__(self, rows, line_kw, difference_kw):
        from matplotlib.lines import Line2D

        self._X = rows[0]
        # Of reconstructions too, which would reach into the cells above and below.
        self._limits = _limits(np.stack([_limits(X) for X in rows]))
        self._style = styled(Line2D, line_kw, color="C0", linewidth=1.0)
        self._difference = styled(Line2D, difference_kw, color="C3", linewidth=1.0)

    def row(self, mosaic, ax, row, X):
        """Draw rows of X from left to right."""
        lines = []
        for i, values in enumerate(X):
            curve = partial(mosaic.curve, ax, row, i, limits=self._limits)
            lines.append(curve(self._X[i], color="0.6", linewidth=1.2))
            if X is not self._X:
                lines[-1] += curve(values, **self._style)
        return lines

    def differences(self, mosaic, ax, row, error, limit):
        """Draw differences around zero, on a scale that ends at minus and plus a limit."""
        limit = limit or 1.0
        lines = []
        for i, values in enumerate(error):
            curve = partial(mosaic.curve, ax, row, i, limits=(-limit, limit))
            lines.append(curve(np.zeros(2), color="0.6", linewidth=0.8))
            lines[-1] += curve(values, **self._difference)
        return lines


def _limits(X):
    low, high = float(np.nanmin(X)), float(np.nanmax(X))
    return (low, high) if high > low else (low, low + 1.0)


def _limits_of_colours(X):
    if X.dtype == np.uint8:
        return 0.0, 255.0
    low, high = _limits(X)
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)
