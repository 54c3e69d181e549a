"""Validation on the user's machine: installation, digits of R and of the release, examples of functions, the user's plan."""

from __future__ import annotations

from causalms.validation.checks import Check, Validation, checks_of, validate
from causalms.validation.numbers import release_numbers
from causalms.validation.protocol import write_protocol

__all__ = ["Check", "Validation", "checks_of", "release_numbers", "validate", "write_protocol"]
