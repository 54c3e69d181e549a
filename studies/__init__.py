"""Studies of causalms itself: long simulations whose results are committed as small tables."""
