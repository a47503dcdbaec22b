"""Every column of the simulated tables, declared once: what it holds, unit, codes, origin. define.md prints this."""

from typing import NamedTuple


class Column(NamedTuple):
    """One column."""

    name: str
    text: str
    unit: str = ""
    codes: str = ""
    origin: str = "simulated"
    """assigned (by this program), simulated (by the model), derived (from other columns), assumed (no data behind it)."""


_DAY = "study day"
_KEYS = (
    Column("STUDYID", "Study; begins with SIMULATED in every table", origin="assigned"),
    Column("USUBJID", "Unique subject", origin="assigned"),
)
_SIGNED = "Y: yes, N: no"

ADSL = (
    *_KEYS,
    Column("SUBJID", "Subject within the study", origin="assigned"),
    Column("SIMFL", "Marks the table as simulated", codes="Y", origin="assigned"),
    Column(
        "ARM",
        "Arm",
        codes="MeziKd: mezigdomide, carfilzomib, dexamethasone; Kd: without mezigdomide",
        origin="assigned",
    ),
    Column("ARMCD", "Arm, code", codes="MEZIKD, KD", origin="assigned"),
    Column("TRT01P", "Planned treatment with its regimen", origin="assigned"),
    Column("REGION", "Region", codes="USA, EUROPE, ASIA, REST OF WORLD", origin="assigned"),
    Column("ITTFL", "Randomised", codes="Y", origin="assigned"),
    Column("SAFFL", "Took at least one dose of any treatment", codes=_SIGNED, origin="assigned"),
    Column("RANDDY", "Day of randomisation and of the first dose", _DAY, "1", "assigned"),
    Column("TRTSDY", "First day of treatment; blank without treatment", _DAY, origin="assigned"),
    Column("TRTEDY", "Last day of treatment before it ended or data were cut", _DAY),
    Column(
        "TRTDURM",
        "Duration of treatment up to its end or data cutoff, not rounded to days",
        "month of 30.4375 days",
    ),
    Column("EOTSTT", "State of treatment at data cutoff", codes="ONGOING, DISCONTINUED"),
    Column("DCTREAS", "Why treatment ended", codes="PROGRESSIVE DISEASE, DEATH, OTHER (adverse event or withdrawal)"),
    Column("BNEUT", "Baseline neutrophil count, with the error of a count", "10^9/L"),
    Column("NEUT0", "Baseline neutrophils without that error: the individual parameter", "10^9/L"),
    Column("EXPOSURE", "Individual exposure over the typical one", "ratio"),
    Column("MATURATN", "Individual maturation rate over the typical one", "ratio"),
    Column(
        "INTENSTY",
        "Individual share of the dose taken, causes other than neutropenia; no effect where the dose intensity is set",
        "share of 1",
    ),
    Column("PRGFRLTY", "Individual progression frailty", "ratio"),
    Column("PLANMG", "Mezigdomide planned originally over the days in adex", "mg", origin="derived"),
    Column("ACTUALMG", "Mezigdomide taken", "mg", origin="derived"),
    Column("RDI", "Relative dose intensity, 100 ACTUALMG / PLANMG", "percent", origin="derived"),
    Column("REDNEUFL", "Dose reduced for neutropenia", codes=_SIGNED),
    Column("REDOTHFL", "Dose reduced for other causes (the reduction itself is inside INTENSTY)", codes=_SIGNED),
    Column("CUTOFFDY", "Data cutoff", _DAY),
    Column("LSTFUDY", "Last day of follow-up: death or data cutoff", _DAY),
    Column("FUPMON", "Follow-up to death or data cutoff, not rounded to days", "month of 30.4375 days"),
    Column("DTHFL", "Died before data cutoff", codes=_SIGNED),
    Column("DTHDY", "Death", _DAY),
    Column("DTHCAUS", "Cause of death", codes="PROGRESSIVE DISEASE (any death after progression), INFECTION, OTHER"),
)

ADEX = (
    *_KEYS,
    Column("EXSEQ", "Record within the subject", origin="assigned"),
    Column(
        "EXTRT",
        "Treatment; carfilzomib and dexamethasone are not modelled",
        codes="MEZIGDOMIDE",
        origin="assigned",
    ),
    Column("CYCLE", "Cycle", origin="derived"),
    Column("ASTDY", "First day of the record", _DAY),
    Column("AENDY", "Last day of the record; days off within a cycle have no record", _DAY),
    Column("NDAYS", "Dosing days, AENDY - ASTDY + 1", "day", origin="derived"),
    Column("PLANDOSE", "Dose of each day as planned originally", "mg/day", origin="assigned"),
    Column("LVLDOSE", "Dose of each day as prescribed: the level in force, 0 on hold", "mg/day"),
    Column(
        "EXDOSE",
        "Dose of each day as taken on average: LVLDOSE times INTENSTY, or times the dose intensity that is set",
        "mg/day",
    ),
    Column("EXADJ", "Why the prescribed dose differs from the planned one", codes="HELD, REDUCED, blank: it does not"),
)

ADLB = (
    *_KEYS,
    Column("PARAMCD", "Parameter", codes="NEUT", origin="assigned"),
    Column("PARAM", "Parameter in words", codes="Neutrophils (10^9/L)", origin="assigned"),
    Column("ADY", "Day of the count", _DAY),
    Column("AVISIT", "Visit", codes="BASELINE, CYCLE n DAY d, UNSCHEDULED (weekly while on hold)", origin="derived"),
    Column("AVISITN", "Visit as cycle + day / 100; 0 at baseline, blank unscheduled", origin="derived"),
    Column(
        "AVAL", "Count with its error, cut (not rounded) to 0.001, so that no grade changes; 0.001 at least", "10^9/L"
    ),
    Column("BASE", "Baseline count", "10^9/L", origin="derived"),
    Column("CHG", "AVAL - BASE", "10^9/L", origin="derived"),
    Column(
        "ATOXGR",
        "Grade of neutropenia, CTCAE version 5",
        codes=("4: below 0.5, 3: below 1.0, 2: below 1.5, 1: below 2.0 (lower limit of normal, assumed), 0: else"),
        origin="derived",
    ),
    Column("ABLFL", "Baseline record", codes="Y or blank", origin="assigned"),
    Column("UNSCHFL", "Unscheduled count", codes="Y or blank"),
)

ADAE = (
    *_KEYS,
    Column("AESEQ", "Event within the subject, in order of its start", origin="assigned"),
    Column(
        "AEDECOD",
        "Event",
        codes="NEUTROPENIA (an episode of grade 3 or 4), FEBRILE NEUTROPENIA, INFECTION",
        origin="assigned",
    ),
    Column("AEBODSYS", "System organ class", origin="assigned"),
    Column(
        "AETOXGR",
        "Worst grade, CTCAE version 5",
        codes=(
            "2 stands for grades 1 and 2 of an infection; 5: fatal. Neutropenia: worst of the counts "
            "in adlb within the episode; febrile neutropenia: 3 (assumed)"
        ),
    ),
    Column("ASTDY", "First day", _DAY),
    Column(
        "AENDY",
        "Last day; neutropenia: day of the count of at least 1.0 that ends it; blank where still "
        "on at death or data cutoff",
        _DAY,
    ),
    Column("ADURN", "AENDY - ASTDY", "day", origin="derived"),
    Column("AESER", "Serious", codes="Y: infection of grade 3 or more, febrile neutropenia; N: else", origin="assumed"),
    Column("AESDTH", "Fatal", codes=_SIGNED),
    Column("CONCNEFL", "Infection concurrent with a count below 1.0 x 10^9/L", codes="Y, N; blank for other events"),
    Column(
        "AEACN",
        "Action taken with mezigdomide",
        codes="DRUG INTERRUPTED (on hold during a neutropenia episode); blank: else or not modelled",
    ),
    Column("AEOUT", "Outcome", codes="RECOVERED, NOT RECOVERED (at death or data cutoff), FATAL"),
)

ADTTE = (
    *_KEYS,
    Column("ARMCD", "Arm, code", codes="MEZIKD, KD", origin="assigned"),
    Column(
        "PARAMCD",
        "Parameter",
        codes=(
            "PFS: progression or death; TTP: progression; OS: death; TTINF3: first infection of grade"
            " 3 or more (treated subjects only)"
        ),
        origin="assigned",
    ),
    Column("PARAM", "Parameter in words", origin="assigned"),
    Column("AVAL", "Time from randomisation to event or censoring, not rounded to days", "month of 30.4375 days"),
    Column("AVALU", "Unit of AVAL", codes="MONTHS", origin="assigned"),
    Column("ADY", "Day of event or censoring", _DAY, origin="derived"),
    Column(
        "CNSR",
        "Censored",
        codes=(
            "0: event; 1: data cutoff; 2: lost to follow-up; 3: death (TTP, TTINF3); 4: 28 days after"
            " the end of treatment (TTINF3)"
        ),
    ),
    Column("EVNTDESC", "Event; blank where censored", codes="PROGRESSIVE DISEASE, DEATH, INFECTION"),
    Column(
        "CNSDTDSC",
        "Reason of censoring; blank with an event",
        codes="DATA CUTOFF, LOST TO FOLLOW-UP, DEATH, END OF SAFETY FOLLOW-UP",
    ),
)

NONMEM = (
    Column("ID", "Subject, 1, 2, ... in the order of adsl", origin="assigned"),
    Column("TIME", "Days since the first dose: study day - 1", "day"),
    Column("AMT", "Dose of each day of the train", "mg", ". on observations"),
    Column("RATE", "Rate of infusion", codes="0: oral dose; . on observations", origin="assigned"),
    Column(
        "II",
        "Interval between the doses of the train",
        "day",
        "1; 0 for a single dose; . on observations",
        "assigned",
    ),
    Column("ADDL", "Further doses of the train", "", ". on observations", "derived"),
    Column("SS", "Steady state", codes="0; . on observations", origin="assigned"),
    Column("EVID", "Record", codes="0: observation, 1: dose", origin="assigned"),
    Column("CMT", "Compartment", codes="1: drug, 2: neutrophils in blood", origin="assigned"),
    Column("DV", "Count, as AVAL of adlb", "10^9/L", ". on doses"),
    Column("MDV", "Missing DV", codes="1 on doses, else 0", origin="assigned"),
    Column("DVID", "Kind of observation", codes="1: neutrophil count; . on doses", origin="assigned"),
    Column("CENS", "Below the limit of quantification", codes="0: never; . on doses", origin="assigned"),
    Column("ARMN", "Arm", codes="1: MeziKd, 0: Kd", origin="assigned"),
    Column("REGIONN", "Region", codes="1: USA, 2: EUROPE, 3: ASIA, 4: REST OF WORLD", origin="assigned"),
    Column("BNEUT", "Baseline count, as in adsl", "10^9/L"),
)

TABLES: dict[str, tuple[str, tuple[Column, ...]]] = {
    "adsl": ("Subjects: one row a subject.", ADSL),
    "adex": ("Exposure: a row for each run of days with one prescribed dose within a cycle.", ADEX),
    "adlb": ("Neutrophil counts, on treatment.", ADLB),
    "adae": ("Adverse events: infections, episodes of neutropenia of grade 3 or 4, febrile neutropenia.", ADAE),
    "adtte": ("Times to event.", ADTTE),
    "nonmem": (
        "Doses and counts in the form that NONMEM reads. A count stands before the dose of the same time: it decides on it.",
        NONMEM,
    ),
}  # fmt: skip
"""Tables by name: what a table holds, and its columns in order."""


def names(table: str) -> list[str]:
    """Return the columns of a table, in order."""
    return [c.name for c in TABLES[table][1]]
