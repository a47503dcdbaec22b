"""Single trials of a calibration of fits to patients, fitted again: ``python tests/benchmarks/trials_again.py 3 7 10 12``.

Those of `mezikd calibrate fits/patients --trials 20 --patients 200 --cycles 12 --seed 1`, by number: how each fit went, in
``trials_again.csv`` beside this file, whose other lines stay. A trial takes five to forty minutes.
"""

import sys
from pathlib import Path

import pandas as pd
from mezikd.inference.arrest_settings import ArrestFit
from mezikd.inference.calibration import drawn_truths
from mezikd.inference.commands import built_in_fit
from mezikd.inference.patient_calibration import PatientCalibrator, TrialPlan, trial_table
from mezikd.inference.patient_settings import load_patient_settings
from mezikd.inference.problem import design_of
from mezikd.inference.processor import keep_memory, keep_programs
from mezikd.inference.settings import load_settings
from mezikd.model.parameters import free

RESULTS = Path(__file__).with_name("trials_again.csv")
FOLDER = Path(__file__).parents[2] / "fits" / "patients"
PATIENTS, CYCLES, TRIALS, SEED = 200, 12, 20, 1


def main(numbers: list[int]) -> None:
    """Fit the trials and write their lines."""
    keep_memory()
    keep_programs()
    settings = load_patient_settings(FOLDER, ArrestFit)
    plan = TrialPlan(settings, design_of(load_settings(built_in_fit())), PATIENTS, CYCLES, SEED)
    truths = drawn_truths(None, len(free(settings.declared)), TRIALS, SEED)
    calibrator = PatientCalibrator.build(plan)
    for i in numbers:
        write(pd.DataFrame(trial_table({i: calibrator.fit(i, truths[i])})))


def write(found: pd.DataFrame) -> None:
    """Write the lines ``found``, in place of those of the same trials."""
    if RESULTS.exists():
        old = pd.read_csv(RESULTS, keep_default_na=False)
        found = pd.concat([old[~old["trial"].isin(found["trial"])], found])
    found.sort_values("trial").to_csv(RESULTS, index=False, float_format="%.5g")


if __name__ == "__main__":
    main([int(x) for x in sys.argv[1:]])
