"""Lowest-weight-magnitude pruning."""

from __future__ import annotations

import numpy as np
import pytest

from paoding_verify.errors import ConfigError
from paoding_verify.evidence.codec import dumps, loads
from paoding_verify.evidence.pruning import PruneTrace
from paoding_verify.network.graph import Conv2d, Dense, Network, parameters
from paoding_verify.network.onnx_out import to_onnx
from paoding_verify.pruning.prune import prune
from paoding_verify.pruning.unstructured import UNSTRUCTURED, kept_weights, zero_share
from tests.networks import conv_net, dense_net, residual_net


def weights(network: Network) -> list[np.ndarray]:
    return [parameters(n.op)[0] for n in network.nodes if isinstance(n.op, (Dense, Conv2d))]


@pytest.mark.parametrize("method", UNSTRUCTURED)
@pytest.mark.parametrize("target", [0.1, 0.5, 0.85])
@pytest.mark.parametrize("make", [dense_net, conv_net, residual_net])
def test_exactly_the_share_of_parameters_becomes_zero(make, method, target):
    network = make(0)
    result = prune(network, target_sparsity=target, method=method)
    assert zero_share(result.network) * network.num_parameters == pytest.approx(round(target * network.num_parameters))
    assert result.trace.sparsity == zero_share(result.network)
    assert (result.trace.sparsity_of, result.trace.method) == ("parameters", method)
    assert result.network.shapes == network.shapes
    assert result.trace.alignment == tuple(tuple(range(n)) for n in network.num_units)
    assert loads(PruneTrace, dumps(result.trace), "trace") == result.trace
    to_onnx(result.network)


def test_the_smallest_weights_of_the_whole_network_go():
    network = dense_net(0)
    pruned = prune(network, target_sparsity=0.5, method="lwm").network
    pairs = list(zip(weights(network), weights(pruned), strict=True))
    gone = np.concatenate([np.abs(a[b == 0]) for a, b in pairs])
    stay = np.concatenate([np.abs(b[b != 0]) for _, b in pairs])
    assert gone.max() <= stay.min()
    for a, b in pairs:
        np.testing.assert_array_equal(a[b != 0], b[b != 0])


def test_every_layer_loses_the_same_share_of_its_smallest_weights():
    network = dense_net(0)
    pruned = prune(network, target_sparsity=0.5, method="lwm-layer").network
    shares = [np.mean(w == 0) for w in weights(pruned)]
    assert max(shares) - min(shares) < 0.03
    for a, b in zip(weights(network), weights(pruned), strict=True):
        assert np.abs(a[b == 0]).max() <= np.abs(b[b != 0]).min()


def test_masks_are_true_where_weights_are_left():
    pruned = prune(conv_net(0), target_sparsity=0.4, method="lwm").network
    for index, mask in kept_weights(pruned).items():
        np.testing.assert_array_equal(mask, parameters(pruned.nodes[index].op)[0] != 0)


def test_targets_that_cannot_be_reached_are_config_errors():
    with pytest.raises(ConfigError, match="strictly between"):
        prune(dense_net(0), target_sparsity=1.0, method="lwm")
    with pytest.raises(ConfigError, match="of the 258 parameters are weights"):
        prune(dense_net(0), target_sparsity=0.95, method="lwm")
