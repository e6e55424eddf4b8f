"""From options to networks, regions and settings."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from paoding_verify.auditing.config import AuditConfig
from paoding_verify.errors import ConfigError
from paoding_verify.network.graph import Network
from paoding_verify.regions import Region

__all__ = ["read_model", "read_regions", "read_settings"]


def read_settings(args: argparse.Namespace) -> AuditConfig:
    """The configuration file, overridden by the options given. Raises: ConfigError naming what is wrong."""
    from paoding_verify.cli.options import given_settings

    config = AuditConfig.load(args.config) if args.config else AuditConfig()
    return replace(config.override(given_settings(args)), command=args.command_line)


def read_model(path: str, args: argparse.Namespace) -> Network:
    """Loads a model file, with its normalisation layer if one was asked for."""
    from paoding_verify.network.load import load_network

    if (args.mean is None) != (args.std is None):
        raise ConfigError("--mean and --std belong together: give both or neither")
    shape = tuple(args.input_shape) if args.input_shape else None
    network = load_network(Path(path), arch=args.arch, input_shape=shape)
    if args.mean is None:
        return network
    from paoding_verify.network.transform import with_normalisation

    return with_normalisation(network, args.mean, args.std)


def read_regions(network: Network, args: argparse.Namespace, config: AuditConfig) -> list[Region]:
    """Regions around rows of --data, or around synthesised anchors."""
    from paoding_verify.auditing.drawing import draw_regions, synthetic_dataset
    from paoding_verify.data import read_dataset

    if args.data:
        dataset = read_dataset(args.data, input_shape=network.input_shape)
    else:
        dataset = synthetic_dataset(network, config)
    return draw_regions(dataset, config)
