"""Medical coding of whole notes, to be run and measured beside the other systems."""

from examples.common.system import Measure, System
from examples.medical_notes.make_data import write_data
from examples.medical_notes.measures import measures

SYSTEM = System(
    name="medical_notes",
    key="medical_coding",
    title="Medical coding: all diagnoses of a visit note",
    write_data=write_data,
    measures=measures,
    told=(
        Measure("f1", "F1 of the codes", "higher"),
        Measure("latency_s", "seconds, p50", "lower", "median"),
        Measure("precision", "precision", "higher"),
        Measure("recall", "recall", "higher"),
        Measure("category_f1", "F1 of the categories", "higher"),
        Measure("false_codes_from_negations", "codes of what the patient has not", "lower"),
        Measure("unseen_codes", "codes that no search showed", "lower"),
        Measure("turns", "turns", "lower"),
        Measure("calls", "searches", "lower"),
        Measure("output_tokens", "sampled tokens", "lower"),
    ),
)
