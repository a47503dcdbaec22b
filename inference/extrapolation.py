"""Which predictions no reported number constrains. One rule, in this place.

A prediction is constrained only where all of this holds; everything else is ``extrapolated``:

1. The scenario is the fitted one: its regimen, its rules, emergent dose intensity, no G-CSF policy beyond the trial's use,
   the region mix of the mezigdomide arm. Kd is the trial's control arm, with the same mix.
2. The outcome corresponds to a number of that arm that the fit used (role ``fit`` in evidence.csv). Numbers of role
   ``check``, such as febrile neutropenia, did not inform it; grade 4, nadir, day-28 counts and the time to neutropenia were
   not reported.
3. It looks no further than the follow-up behind those numbers: 18 months, which about one patient in seven had reached
   (reported quartiles 7.2, 10.6 and 15.3 months). What is given once (dose intensity, holds, hazard ratio, median PFS)
   may cover a horizon of up to 24 months.
"""

import numpy as np
from mezikd.model.scenario import DoseRules

from .evidence import Evidence
from .prediction_outcomes import HAZARD_RATIO, KINDS, Key
from .scenarios import Fitted, NamedScenario

LAST_MONTH = 18
LAST_HORIZON = 24


def is_fitted(s: NamedScenario, fitted: Fitted) -> bool:
    """Return whether ``s`` is what the trial's arm received."""
    same_regions = np.allclose(s.regions, fitted.regions, atol=1e-9)
    if s.scenario.arm == "kd":
        return same_regions
    plain = s.scenario.rules == DoseRules() and s.scenario.rdi is None and s.scenario.gcsf.policy == "none"
    return plain and s.scenario.regimen == fitted.regimen and same_regions


def is_extrapolated(s: NamedScenario, key: Key, fitted: Fitted, evidence: Evidence) -> bool:
    """Return whether no reported number constrains outcome ``key`` of scenario ``s``."""
    kind = KINDS[key.outcome]
    if not is_fitted(s, fitted) or kind.reported is None:
        return True
    arm = "mezikd_vs_kd" if key.outcome == HAZARD_RATIO else s.scenario.arm
    if not any(r.outcome == kind.reported and r.arm == arm for r in evidence.fit):
        return True
    return key.month > (LAST_MONTH if kind.by_month else LAST_HORIZON)
