"""What editors complete and type checkers see of the public face; a test holds it to __init__.py."""

from causalms.agreement import agree, agree_published
from causalms.benefit import who_benefits
from causalms.calibration import assess, conformal, pair
from causalms.causal import CausalModel
from causalms.effects import Design, Method, analyse, estimate, sample_size
from causalms.lesions import LesionRule
from causalms.phantom import simulate_trial
from causalms.report import figures, write_report
from causalms.subgroups import forest, shrink
from causalms.tables import read_table, write_table
from causalms.trials import Trial, check_trial, load_trial

__version__: str

__all__ = [
    "CausalModel",
    "Design",
    "LesionRule",
    "Method",
    "Trial",
    "agree",
    "agree_published",
    "analyse",
    "assess",
    "check_trial",
    "conformal",
    "estimate",
    "figures",
    "forest",
    "load_trial",
    "pair",
    "read_table",
    "sample_size",
    "shrink",
    "simulate_trial",
    "who_benefits",
    "write_report",
    "write_table",
]
