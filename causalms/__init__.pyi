"""What editors complete and type checkers see of the public face; a test holds it to __init__.py."""

from causalms.agreement import agree as agree
from causalms.agreement import agree_published as agree_published
from causalms.benefit import who_benefits as who_benefits
from causalms.calibration import assess as assess
from causalms.calibration import conformal as conformal
from causalms.calibration import pair as pair
from causalms.causal import CausalModel as CausalModel
from causalms.causal import Running as Running
from causalms.effects import Design as Design
from causalms.effects import Method as Method
from causalms.effects import analyse as analyse
from causalms.effects import estimate as estimate
from causalms.effects import sample_size as sample_size
from causalms.lesions import LesionRule as LesionRule
from causalms.phantom import simulate_trial as simulate_trial
from causalms.report import figures as figures
from causalms.report import write_report as write_report
from causalms.subgroups import forest as forest
from causalms.subgroups import shrink as shrink
from causalms.tables import read_table as read_table
from causalms.tables import write_table as write_table
from causalms.trials import Trial as Trial
from causalms.trials import check_trial as check_trial
from causalms.trials import load_trial as load_trial

__version__: str
