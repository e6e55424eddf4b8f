"""Search for bounds: auto_LiRPA on one network, differential bounds on a pair."""
