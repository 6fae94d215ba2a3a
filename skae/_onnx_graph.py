"""The ONNX graph of one network, written by torch."""

import logging
import warnings
from contextlib import contextmanager
from math import prod

import numpy as np
import torch
from torch import nn

from ._to_torch import to_torch

# More than this protobuf, which ONNX models are made of, cannot hold.
_MOST_BYTES = 2**31 - 1


def graph_of_autoencoder(estimator, shape, dtype, target_opset, inverse=False):
    """What `transform` or `inverse_transform` computes of rows of some shape and dtype.

    Weights are float32 whatever the fit had, which is what runtimes are made for.
    """
    name = type(estimator).__name__
    module = to_torch(estimator, inverse=inverse).float()
    width = estimator.latent_dim_ if inverse else estimator.n_features_in_
    if prod(shape) != width:
        raise ValueError(f"X has rows of shape {shape}, but {name} takes {width} numbers.")
    n_bytes = sum(weights.nbytes for weights in module.state_dict().values())
    if n_bytes > _MOST_BYTES:
        raise ValueError(
            f"{name} has {n_bytes / 1e9:.3g} GB of weights, but an ONNX model holds at most "
            f"{_MOST_BYTES / 1e9:.3g} GB: save it with torch instead, "
            f"torch.export.save(torch.export.export(skae.to_torch(model), (x,)), path)."
        )
    ends = ("codes", "X") if inverse else ("X", "codes")
    rows = {0: torch.export.Dim("n_samples")}
    try:
        return graph_of(module, np.zeros((2, *shape), dtype), rows, *ends, target_opset)
    except torch.onnx.OnnxExporterError as error:
        layers = {type(layer).__name__ for layer in module.modules() if _may_lack_form(layer)}
        raise ValueError(
            f"{name} has no ONNX form, because torch finds none for one of its layers "
            f"{', '.join(sorted(layers))}."
        ) from error


def graph_of(module, example, dynamic_axes, input_name, output_name, target_opset):
    """What a module in evaluation mode computes of arrays like the example: a `ModelProto`."""
    with _quiet_exporter():
        program = torch.onnx.export(
            module,
            (torch.from_numpy(example),),
            dynamo=True,
            dynamic_shapes=(dynamic_axes,),
            input_names=[input_name],
            output_names=[output_name],
            opset_version=target_opset,
            verbose=False,
        )
    model_proto = program.model_proto
    for node in model_proto.graph.node:
        node.ClearField("metadata_props")  # which tell where files lie on this machine
    return model_proto


def _may_lack_form(layer):
    containers = (nn.Identity, nn.ModuleList, nn.Sequential)
    return type(layer) not in containers and not type(layer).__module__.startswith("skae.")


@contextmanager
def _quiet_exporter():
    """Without what torch's exporter says of itself: packages it misses, its deprecated calls."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r".*LeafSpec\)` is deprecated", FutureWarning)
            yield
    finally:
        logger.setLevel(level)
