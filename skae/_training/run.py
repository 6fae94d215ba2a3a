"""One training run: constant rate, averaged weights, an end that validation rows decide."""

import warnings
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import nan
from numbers import Real

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from skorch.helper import predefined_split

from .._nn.layers import use_generator
from .._runtime.checkpoint import NO_CHECKPOINT, Checkpoint, NoCheckpoint
from .._runtime.digests import structure_of
from .._runtime.execution import multithreaded_operations
from .._runtime.process_group import rank
from .._runtime.reports import NO_REPORT, Report
from .average import AveragedModule
from .course import Course
from .graph import records_steps
from .interrupts import Interrupts
from .net import AutoencoderNet, EndOfTraining

# Single operations of modules with more weights are large enough to be divided among threads. Those
# of others would wait for the slower thread dozens of times a step: for long on a busy machine.
_LARGE_MODULE = 2**25


@dataclass(frozen=True)
class TrainingOptions:
    """How a module is trained; most names are those of the estimators' parameters.

    ``max_epochs`` is None for no limit that matters. ``validation_fraction`` is the share of the
    rows that are held out of training, to validate on. ``groups`` are the numbers of the groups of
    all rows, of which none is split between training and validation; None without groups.
    ``has_custom`` is whether the user gives networks.
    """

    loss: type[torch.nn.Module]
    max_epochs: int | None
    batch_size: int
    learning_rate: float
    weight_decay: float
    early_stopping: bool
    validation_fraction: float
    tol: float
    bfloat16: bool
    device: torch.device
    callbacks: tuple = ()
    has_custom: bool = False
    supervision: float = 0.0
    report: Report = NO_REPORT
    checkpoint: Checkpoint | NoCheckpoint = NO_CHECKPOINT
    interrupts: Interrupts = field(default_factory=Interrupts)
    groups: np.ndarray | None = None


def train(
    module,
    rows,
    options,
    *,
    validation=None,
    seed=0,
    stage="training",
    of_pca=nan,
    n_steps=None,
    n_averaged=0,
):
    """Train ``module`` in place to reconstruct ``rows``; it ends with its best average of weights.

    AdamW trains at a constant rate after a short warm-up. What is validated, and returned, is the
    average of the weights (`AveragedModule`); training ends at the `Knee` of its validation losses,
    or after ``options.max_epochs``. If the loss explodes, training continues from the best weights
    so far at a quarter of the rate; if it does so again, it ends with them. It also ends with them
    at the user's Ctrl-C, which ``options.interrupts`` counts.

    Parameters
    ----------
    module : Module
        Returns the reconstructions of a batch of rows.
    rows : RowSet
    options : TrainingOptions
    validation : RowSet, default=None
        Rows to validate on. Without them, and for a module with penalties, whose losses do not
        show what is best, the last average is returned.
    seed : int
        Seeds the order of the rows, dropout and noise.
    stage : str
        Its name in reports, in the history and in the checkpoint.
    of_pca : float
        Share of the variance that PCA explains on the validation rows.
    n_steps : int, default=None
        Ends training after so many steps.
    n_averaged : int, default=0
        Number of earlier steps whose average the weights are.

    Returns
    -------
    history : list of dict
        One entry for each epoch: "stage", "epoch", "n_steps" so far, "train_loss", "valid_loss" if
        there are validation rows, both in the unit of X, "variance_explained", on the validation
        rows if there are any, and "dur" (seconds). After Ctrl-C it may be empty.
    """
    structure = structure_of(module)
    saved = options.checkpoint.load(stage) or {"structure": structure, "history": []}
    if saved["structure"] != structure:  # such as that of another function of the same name
        raise options.checkpoint.of_another_fit("other networks")
    history = saved["history"]
    options.report.on_stage_begin(stage, len(history))
    if "weights" in saved:  # the run was completed
        module.load_state_dict(saved["weights"])
        module.eval()
        return history
    average = AveragedModule(module, n_averaged)
    course = Course(average, rows, validation, options, stage, of_pca, n_steps, saved)
    with options.interrupts.ending_training(), ExitStack() as stack:
        net = AutoencoderNet(
            module,
            criterion=options.loss if rows.targets is None else rows.targets.criterion,
            optimizer=torch.optim.AdamW,
            optimizer__betas=(0.9, 0.95),
            optimizer__weight_decay=options.weight_decay,
            optimizer__fused=True,
            lr=options.learning_rate,
            batch_size=options.batch_size,
            train_split=None if validation is None else predefined_split(validation),
            callbacks=[("course", course), *options.callbacks],
            device=options.device,
            verbose=int(bool(options.callbacks)),  # for those that print
            averaged_module=course.average,
            generator=torch.Generator().manual_seed(seed),
            interrupts=options.interrupts,
            bfloat16=options.bfloat16,
            has_user_callbacks=bool(options.callbacks),
        ).initialize()
        noise = torch.Generator(options.device).manual_seed(seed + rank())
        course.noise = stack.enter_context(use_generator(noise, module))
        if records_steps(rows, options):
            net.record_steps(noise)
        stack.enter_context(multithreaded_operations(_is_large(module)))
        net.notify("on_train_begin", X=rows, y=None)
        try:
            net.fit_loop(rows, epochs=course.n_epochs_left)
        except EndOfTraining:
            pass
        finally:
            net.notify("on_train_end", X=rows, y=None)
    for entry, epoch in zip(reversed(history), reversed(net.history), strict=False):
        entry |= _scores_of_callbacks(epoch, entry)
    module.eval()
    course.load_best(module)
    if not options.interrupts.n:
        completed = {"weights": module.state_dict(), "history": history}
        options.checkpoint.save(stage, completed | {"structure": structure})
    return history


def _is_large(module):
    return sum(weight.numel() for weight in module.parameters()) > _LARGE_MODULE


def warn_if_cut_short(history, options):
    """Warn if the user set ``max_epochs``, and training was still improving when it ended.

    A single epoch shows no trend.
    """
    if options.max_epochs is None or not 2 <= len(history) == options.max_epochs:
        return
    key = "valid_loss" if "valid_loss" in history[-1] else "train_loss"
    *before, last = (epoch[key] for epoch in history)
    if last < (1 - 1e-4) * min(before):
        warnings.warn(
            f"Training was still improving when max_epochs={options.max_epochs} ended it.",
            ConvergenceWarning,
            stacklevel=2,
        )


def _scores_of_callbacks(epoch, entry):
    """Numbers that callbacks have recorded of an epoch, and an entry of the history has not yet."""
    return {
        name: float(value)
        for name, value in epoch.items()
        if isinstance(value, Real)
        and not isinstance(value, (bool, np.bool_))
        and not name.endswith("_batch_count")
        and name not in entry
    }
