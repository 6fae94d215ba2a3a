"""Pictures and lines side by side in one axes, in lines of rows that have names."""

import numpy as np

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
