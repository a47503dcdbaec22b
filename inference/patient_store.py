"""Patients' tables inside the file of a fit to them, so that the file alone is enough to predict a patient."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from .errors import input_error
from .patient_data import PatientData, split_records
from .patient_results import KIND
from .posterior_file import DRAWS, opened

TABLES = "patients_tables"
"""Group of the file: each table as CSV text."""
_RECORDS = ("time", "evid", "cmt", "amt", "rate", "ii", "addl", "ss", "level")
_WORDS: Any = {"id": str, "kind": str, "observable": str, "reason": str}


def stored(tables: PatientData) -> xr.Dataset:
    """Return the tables as a group of a posterior file; numbers keep every digit."""
    return xr.Dataset({n: ((), t.to_csv(index=False)) for n, t in tables.tables().items()})


def restored(group: xr.Dataset) -> PatientData:
    """Return the tables that ``stored`` kept."""
    found = {
        str(n): pd.read_csv(
            io.StringIO(str(group[n].item())), dtype=_WORDS, keep_default_na=False, na_values=[""], float_precision="round_trip"  # pyright: ignore[reportArgumentType, reportCallIssue]
        )
        for n in group
    }  # fmt: skip
    covariates = found["covariates"].set_index("id")
    ids, r = tuple(map(str, covariates.index)), found["records"]
    records = split_records(
        r["patient"].to_numpy(int), len(ids), **{c: r[c].to_numpy(float) for c in _RECORDS if c in r}
    )
    events = found["events"].astype({"grade": "Int64"})
    return PatientData(ids, records, found["observations"], events, covariates, found["exposure"])


def is_patient_fit(posterior: Path) -> bool:
    """Return whether a posterior file is of a fit to patients' own tables.

    Raises
    ------
    InputError: as ``posterior_file.opened``.
    """

    def attributes(file: io.BytesIO) -> xr.DataTree:
        import h5py

        tree = xr.DataTree()
        with h5py.File(file) as h5:
            tree.attrs.update({k: h5.attrs[k] for k in ("mezikd_format", "kind") if k in h5.attrs})
        tree.attrs["mezikd_format"] = int(np.ravel(tree.attrs["mezikd_format"])[0])
        return tree

    return opened(posterior, attributes).attrs.get("kind") == KIND


def load_patient_fit(posterior: Path) -> tuple[xr.DataTree, PatientData]:
    """Return a fit to patients' own tables and these tables.

    Raises
    ------
    InputError: as ``posterior_file.opened``, or a fit of a version that did not keep the tables.
    """
    tree = opened(posterior)
    if TABLES not in tree.children or DRAWS not in tree.children:
        raise input_error(posterior, "a fit of an older version: it keeps no patients' tables", "fit again")
    return tree, restored(tree[TABLES].to_dataset())
