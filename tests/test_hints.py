"""Hints are as short as they can be, and prove what they proved before."""

import numpy as np

from paoding_verify.bounds.hints import LONG, needed_slopes
from paoding_verify.bounds.lirpa import LirpaBounder
from paoding_verify.checker.crown import lower_bounds
from paoding_verify.evidence.certificate import Certificate
from paoding_verify.evidence.codec import dumps
from tests.networks import dense_net

NETWORK = dense_net(11, sizes=(8, 40, 40, 40, 4))
CENTRES = np.random.default_rng(12).normal(size=(6, 8))
BOX = CENTRES - 0.3, CENTRES + 0.3
ROWS = np.random.default_rng(13).normal(size=(6, 5, 4))


def proved(offsets, slopes):
    hints = [Certificate("crown", tables) for tables in slopes]
    return lower_bounds([NETWORK], *BOX, ROWS, offsets, semantics="float32", hints=hints)


def size(tables):
    return len(dumps(Certificate("crown", tables), indent=None))


def found():
    """Slopes, and offsets with which every row is proved by them, with room for other slopes, and by nothing less."""
    zero = np.zeros((6, 5))
    slopes = LirpaBounder(NETWORK).lower_bounds(*BOX, ROWS, zero, method="alpha-crown").slopes
    best, plain = proved(zero, slopes), proved(zero, [{}] * 6)
    return slopes, 0.6 * np.abs(best - plain) - best


def test_rows_share_slopes_in_long_certificates():
    slopes, offsets = found()
    own = needed_slopes(NETWORK, BOX, ROWS, offsets, slopes, limit=1 << 20)
    short = needed_slopes(NETWORK, BOX, ROWS, offsets, slopes)
    end, changed = len(NETWORK.nodes), 0
    for before, after in zip(own, short, strict=True):
        assert size(after) <= size(before)
        assert before.keys() == after.keys()
        rows = {len(table) for key, table in after.items() if key[0] == end}
        if rows == {1}:
            changed += 1
            assert size(before) > LONG
    assert changed
    assert (proved(offsets, short) > 0).all()


def test_rows_keep_their_own_slopes_where_the_proof_needs_them():
    slopes, _ = found()
    offsets = 1e-9 - proved(np.zeros((6, 5)), slopes)
    own = needed_slopes(NETWORK, BOX, ROWS, offsets, slopes, limit=1 << 20)
    short = needed_slopes(NETWORK, BOX, ROWS, offsets, slopes, limit=0)
    for before, after in zip(own, short, strict=True):
        assert all((after[key] == table).all() for key, table in before.items())
