"""What the studies share."""

from causalms.phantom import load_design

#: Arms of the pooled designs, in order of rising efficacy.
ARMS = load_design("pooled").arms
