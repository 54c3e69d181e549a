"""Forecasts, couplings and uncertainty judged against the truth that only a simulated trial has."""
