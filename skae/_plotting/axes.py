"""Where displays draw, and how a row is drawn: picture, map or lines, side by side in one axes."""

from functools import partial

import numpy as np


def check_matplotlib(caller):
    """Raise ImportError, before any long work, where there is nothing to draw with."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(f'{caller} needs matplotlib: pip install "skae[plot]".') from error


def axes_for(ax):
    """The axes that were given, or those of a new figure that makes room for its labels."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    _, ax = plt.subplots(layout="constrained")
    return ax


def styled(artist, given, **defaults):
    """Keywords for an artist: ours, unless they were given, by whatever alias."""
    from matplotlib.cbook import normalize_kwargs

    return {**defaults, **normalize_kwargs(given, artist)}


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


# Inches that the cells of one line of a mosaic may fill.
_LINE = 10.0

# Inches between neighbouring cells, between lines, around names, and around all of a figure.
_GAP, _WIDE_GAP, _MARGIN, _PAD = 0.07, 0.3, 0.1, 0.15

# A name with the room that it needs is so many times as high as its font.
_LINE_SPACING = 1.4


class Mosaic:
    """A grid of cells: one column for each sample, wrapped into lines, and some rows in each.

    One axes holds them all, since fifty samples in an axes each would take seconds to lay out.

    Parameters
    ----------
    n_samples : int
    names : list of str
        Of the rows of a line, from the top.
    cell : tuple of two floats
        Width and height of a cell in inches.
    n_columns : int or None
        Most cells side by side; None for as many as have room.
    """

    def __init__(self, n_samples, names, cell, n_columns=None):
        self.names = names
        self.cell = cell
        most = max(1, int(_LINE / cell[0])) if n_columns is None else n_columns
        self.n_lines = -(-n_samples // most)
        self.n_columns = -(-n_samples // self.n_lines)  # so that the last line is about as long
        self._width = cell[0] / cell[1]
        self._gap, self._wide_gap = _GAP / cell[1], _WIDE_GAP / cell[1]
        self._line = len(names) * (1 + self._gap) + self._wide_gap

    @property
    def extent(self):
        """Width and height of all cells, in heights of a cell."""
        width = self.n_columns * (self._width + self._gap) - self._gap
        return width, self.n_lines * self._line - self._wide_gap - self._gap

    def place(self, row, sample):
        """Left, bottom, width and height of a cell."""
        line, column = divmod(sample, self.n_columns)
        bottom = -line * self._line - row * (1 + self._gap) - 1
        return column * (self._width + self._gap), bottom, self._width, 1.0

    def frame(self, ax, *, in_proportion, own):
        """Set the limits of the axes, write the names of the rows inside of it, and return them.

        If the figure is our own, it is given the size that all needs; else names become as small
        as the axes asks for.
        """
        width, height = self.extent
        names = [
            ax.text(
                0, self.place(row, line * self.n_columns)[1] + 0.5, name, ha="right", va="center"
            )
            for line in range(self.n_lines)
            for row, name in enumerate(self.names)
        ]
        widest = max(name.get_window_extent().width for name in names) / ax.figure.dpi
        if own:
            unit = across = self.cell[1]
            ax.figure.set_size_inches(
                widest + 2 * _MARGIN + width * unit + _PAD, height * unit + _PAD
            )
        else:
            box, dpi = ax.get_window_extent(), ax.figure.dpi
            room = (box.width / dpi, box.height / dpi)
            unit = min(room[1] / height, room[0] / width) if in_proportion else room[1] / height
            size = names[0].get_fontsize()
            share = min(1.0, 72 * unit / (_LINE_SPACING * size), room[0] / 3 / widest)
            widest *= share
            across = (room[0] - widest - 2 * _MARGIN) / width
            if in_proportion:
                unit = across = min(unit, across)
            for name in names:
                name.set_fontsize(min(share * size, 72 * unit / _LINE_SPACING))
        for name in names:
            name.set_x(-_MARGIN / across)
        ax.set_aspect("equal" if in_proportion else "auto")
        ax.set(
            xlim=(-(widest + 2 * _MARGIN) / across, width), ylim=(-height, 0), xticks=[], yticks=[]
        )
        ax.spines[:].set_visible(False)
        return names

    def picture(self, ax, row, sample, pixels, **style):
        """Draw (height, width) or (height, width, channels) pixels into a cell."""
        left, bottom, width, height = self.place(row, sample)
        return ax.imshow(pixels, extent=(left, left + width, bottom, bottom + height), **style)

    def curve(self, ax, row, sample, values, limits, **style):
        """Draw (length, channels) values as lines into a cell whose height is that of limits."""
        left, bottom, width, height = self.place(row, sample)
        low, high = limits
        x = left + width * np.linspace(0.04, 0.96, len(values))
        y = bottom + height * (0.04 + 0.92 * (values - low) / (high - low))
        return ax.plot(x, y, **style)
