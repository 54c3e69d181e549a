"""Mechanisms that ship: the diffusion model of masks, and a negative-binomial regression of counts."""
