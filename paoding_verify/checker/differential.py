"""placeholder"""

from paoding_verify.checker.crown import bound_rows, enclose
from paoding_verify.checker.program import pair_program


def pair_lower_bounds(original, pruned, lower, upper, rows, offsets, *, alignment, semantics, slopes=None):
    state = enclose(
        pair_program(original, pruned, None), lower, upper, semantics, slopes=slopes, num_rows=rows.shape[-2]
    )
    return bound_rows(state, rows, offsets)
