"""The independent re-proof of certified claims, in rigorous arithmetic, without torch, auto_LiRPA or z3."""
