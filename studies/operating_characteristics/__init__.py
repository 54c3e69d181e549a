"""Operating characteristics of the effect estimators by simulation."""
