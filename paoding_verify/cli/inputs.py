"""From options to networks, regions and settings."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from paoding_verify.auditing.config import AuditConfig
from paoding_verify.cli.limits import limits_of
from paoding_verify.errors import ConfigError, InputError
from paoding_verify.limits import DataLimits, LoadLimits
from paoding_verify.network.graph import Network
from paoding_verify.regions import Region

if TYPE_CHECKING:  # --help needs none of it
    from paoding_verify.data import Dataset

__all__ = ["read_model", "read_regions", "read_settings"]

USUAL_RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))
"""Legal ranges of images; data that fill one exactly most likely have it."""


def read_settings(args: argparse.Namespace) -> AuditConfig:
    """The configuration file, overridden by the options given. Raises: ConfigError naming what is wrong."""
    from paoding_verify.cli.options import given_settings

    config = AuditConfig.load(args.config) if args.config else AuditConfig()
    normalisation = ""
    if args.mean is not None:
        mean, std = (", ".join(f"{value:g}" for value in values) for values in (args.mean, args.std))
        normalisation = f"(x - mean) / std in front of every network, mean {mean}, std {std}"
    given = given_settings(args)
    if "target_sparsity" in given:  # instead of a budget that the file may ask for
        config = replace(config, max_certified_drop=None)
    return replace(config.override(given), command=args.command_line, normalisation=normalisation)


def read_model(path: str, args: argparse.Namespace, *, role: str = "") -> Network:
    """Loads a model file, with its normalisation layer if one was asked for; errors name the file."""
    from paoding_verify.network.load import load_network
    from paoding_verify.network.transform import with_normalisation

    shape = tuple(args.input_shape) if args.input_shape else None
    limits = limits_of(args, LoadLimits)
    try:
        network = load_network(Path(path), arch=args.arch, input_shape=shape, limits=limits)
    except InputError as error:
        words = str(error).replace("`arch`", "--arch MODULE:NAME").replace("`input_shape`", "--input-shape")
        name = Path(path).name
        where = " ".join(word for word in (role, "" if name in words else name) if word)
        raise type(error)(f"{where}: {words}" if where else words) from error
    return network if args.mean is None else with_normalisation(network, args.mean, args.std)


def read_regions(network: Network, args: argparse.Namespace, config: AuditConfig) -> tuple[list[Region], AuditConfig]:
    """Regions around rows of --data, or around synthesised anchors; and the settings, with what was really drawn.

    Raises: ConfigError if there are fewer rows than were asked for; InputError for a label that is no class.
    """
    from paoding_verify.auditing.drawing import draw_regions, synthetic_dataset
    from paoding_verify.auditing.tasks import refuse_odd_labels
    from paoding_verify.data import read_dataset

    if args.data:
        dataset = read_dataset(args.data, input_shape=network.input_shape, limits=limits_of(args, DataLimits))
        if config.samples is not None and config.samples > len(dataset):
            raise ConfigError(
                f"samples: {config.samples} were asked for, {dataset.source} holds {len(dataset)}: ask for fewer"
            )
        number = min(config.num_samples, len(dataset))
        drawing = f"{number} of the {len(dataset)} rows of {dataset.source}, drawn by seed {config.seed}, no row twice"
    else:
        dataset = synthetic_dataset(network, config)
        number = config.num_samples
        drawing = f"{number} inputs synthesised from the network alone by seed {config.seed}; no data was read"
    regions = draw_regions(dataset, config)
    refuse_odd_labels(network, regions)
    if args.data and regions[0].domain is None:
        _tell_range(dataset)
    radii = f"; around each one region for each of {len(config.eps)} radii" if len(config.eps) > 1 else ""
    return regions, replace(config, samples=number, drawing=f"{drawing}{radii}.")


def _tell_range(dataset: Dataset) -> None:
    """Says on stderr that boxes may leave the range of the data, which the user may not want."""
    low, high = float(dataset.x.min()), float(dataset.x.max())
    if (low, high) in USUAL_RANGES:
        print(
            f"paoding-verify: note: all values of {dataset.source} lie between {low:g} and {high:g}, and boxes reach "
            f"beyond; if other values are not legal inputs, add --domain {low:g} {high:g}",
            file=sys.stderr,
        )
