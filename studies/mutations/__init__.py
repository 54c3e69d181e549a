"""Seeded faults in effects, calibration and stats: how many of them ``causalms validate`` catches."""
