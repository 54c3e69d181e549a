"""The template files that ship are the template as it is made."""

from dataclasses import fields

import numpy as np
import pytest

from causalms.trials import mni_space, template_anatomy
from causalms.trials.template import SHIPPED, Anatomy, make_anatomy, template_file


def test_the_template_that_ships_for_each_grid_is_the_one_that_is_made() -> None:
    for grid in SHIPPED:
        shipped, made = template_anatomy(mni_space(grid)), make_anatomy(mni_space(grid))
        for field in fields(Anatomy):
            one, other = getattr(shipped, field.name), getattr(made, field.name)
            assert one.dtype == other.dtype
            if one.dtype == np.float32:  # another processor may round the last bit of a distance or a share otherwise
                np.testing.assert_allclose(one, other, atol=1e-5, rtol=0, err_msg=f"{grid} {field.name}")
            else:
                np.testing.assert_array_equal(one, other, err_msg=f"{grid} {field.name}")


def test_the_template_of_a_shipped_grid_is_read_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    template_anatomy.cache_clear()
    monkeypatch.setattr("causalms.trials.template.make_anatomy", lambda space: pytest.fail("the template was made"))
    for grid in SHIPPED:
        anatomy = template_anatomy(mni_space(grid))
        assert template_file(grid).is_file()
        assert not anatomy.brain.flags.writeable
