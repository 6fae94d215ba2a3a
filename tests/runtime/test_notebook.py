"""Fits in the kernel of a notebook, whose environment has no widgets."""

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

PREPARE = """
import os, signal, sys, warnings
sys.modules["ipywidgets"] = None  # an environment without it
warnings.simplefilter("ignore")
from sklearn.datasets import load_digits
from skorch.callbacks import Callback
from skae import DenseAutoencoder

class Press(Callback):
    def on_epoch_end(self, net, **kwargs):
        signal.raise_signal(signal.SIGINT)

X = load_digits().data[:600]
settings = dict(hidden_layer_sizes=(16,), max_epochs=8, random_state=0)
"""


@pytest.fixture(scope="module")
def outputs():
    """What each cell of a notebook shows."""
    sources = [
        PREPARE,
        "DenseAutoencoder(4, verbose=1, **settings).fit(X);",
        "ae = DenseAutoencoder(4, callbacks=[Press()], **settings).fit(X)\nprint('went on')",
        "ae = DenseAutoencoder(4, linear_path=False, callbacks=[Press()], **settings)\nae.fit(X);",
        "print(ae.interrupted_, ae.transform(X).shape)",
    ]
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(notebook, timeout=120, allow_errors=True).execute()
    return [cell.outputs for cell in notebook.cells]


@pytest.mark.slow
def test_progress_is_one_line_that_ends_with_what_was_kept(outputs):
    (shown,) = outputs[1]
    assert shown.output_type == "display_data"
    (line,) = shown.data["text/plain"].splitlines()
    assert "validation rows" in line
    assert line.startswith(("networks kept: ", "PCA kept: "))


@pytest.mark.slow
def test_an_interrupt_ends_the_cell_and_leaves_a_fitted_autoencoder(outputs):
    for cell in outputs[2:4]:
        assert [output.ename for output in cell] == ["KeyboardInterrupt"]
    assert outputs[4][0].text == "True (600, 4)\n"
