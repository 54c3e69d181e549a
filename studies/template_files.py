"""Write the template files that ship: python studies/template_files.py (the same bytes every time)."""

from dataclasses import fields

import numpy as np

from causalms.trials import mni_space
from causalms.trials.template import SHIPPED, Anatomy, make_anatomy, template_file

if __name__ == "__main__":
    for grid in SHIPPED:
        made = make_anatomy(mni_space(grid))
        np.savez_compressed(template_file(grid), **{field.name: getattr(made, field.name) for field in fields(Anatomy)})
        print(f"{template_file(grid).name}: {template_file(grid).stat().st_size / 1000:.0f} kB")
