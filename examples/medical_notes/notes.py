"""Visit notes: diagnoses that the patient has, among others that are denied, past, in the family or only suspected.

Each is named once, word for word, in a sentence of its own. Only those that the patient has now are coded: a past or a
family history has codes of its own kind in ICD-10-CM (Z80 to Z87), which these notes leave out.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from examples.medical_coding.terms import Diagnosis
from examples.medical_notes.codes import category, sex_of
from examples.medical_notes.difficulty import Difficulty, Kind

AGES = (24, 79)
YEARS = (1995, 2019)

COMPLAINTS = (
    "Here for {term}.",
    "Seen for {term}.",
    "Returns with {term}.",
    "Referred for {term}.",
    "Has had {term} for {weeks} weeks.",
    "Troubled by {term} since {month}.",
    "{Term}, worse over the past {weeks} weeks.",
)
ASSESSMENTS = (
    "{Term}, stable.",
    "{Term}, improving.",
    "{Term}, not controlled.",
    "{Term}, new.",
    "{Term}, on treatment.",
    "{Term} confirmed today.",
    "Treated for {term}.",
)
NOT_CODED: dict[Kind, tuple[str, ...]] = {
    "denied": (
        "Denies {term}.",
        "No evidence of {term}.",
        "No sign of {term}.",
        "{Term} ruled out.",
        "Workup negative for {term}.",
        "Does not have {term}.",
    ),
    "past": (
        "History of {term}, resolved.",
        "{Term} in {year}, fully recovered.",
        "Had {term} years ago, cured.",
        "Past {term}, no longer present.",
    ),
    "family": (
        "Mother had {term}.",
        "Father with {term}.",
        "Sister treated for {term}.",
        "Family history of {term}.",
    ),
    "suspected": (
        "Possible {term}, tests ordered.",
        "{Term} suspected, not confirmed.",
        "Rule out {term}.",
    ),
}
PLANS = ("Return in {weeks} weeks.", "Labs today.", "Continue medication.", "Follow up by phone.", "Diet reviewed.")
SMALL_TALK = (
    "Sleeps well.",
    "Takes medication as prescribed.",
    "Lives with family and walks daily.",
    "Appetite is unchanged.",
    "Works full time.",
    "Does not smoke.",
    "Reviewed the home medication list.",
    "Questions were answered.",
    "Vaccinations are up to date.",
)
MONTHS = ("January", "March", "May", "June", "August", "October")


@dataclass(frozen=True)
class Finding:
    """One diagnosis of a note: its code and name, how it is mentioned, and the sentence that does so."""

    diagnosis: Diagnosis
    kind: Kind
    sentence: str


@dataclass(frozen=True)
class Note:
    """A note and its findings, in the order in which it mentions them."""

    text: str
    findings: list[Finding]

    @property
    def coded(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.kind == "now"]


def write_note(names: Sequence[Diagnosis], difficulty: Difficulty, writer: random.Random) -> Note:
    """A note about a few of `names`, each of another category.

    Raises:
        ValueError: there are too few names for one.
    """
    sex = writer.choice(("man", "woman"))
    n_now, n_not_coded = writer.randint(*difficulty.n_now), writer.randint(*difficulty.n_not_coded)
    drawn = _drawn(names, n_now + n_not_coded, sex, writer)
    kinds: list[Kind] = [*("now" for _ in range(n_now)), *writer.choices(difficulty.not_coded, k=n_not_coded)]
    # At least one diagnosis stands in each part; of the others, and of what is denied, the place says nothing.
    in_assessment = [number == 0 or (number > 1 and writer.random() < 0.5) for number in range(n_now)]
    in_assessment += [kind == "suspected" or (kind == "denied" and writer.random() < 0.5) for kind in kinds[n_now:]]
    story: list[Finding] = []
    assessment: list[Finding] = []
    for diagnosis, kind, late in zip(drawn, kinds, in_assessment, strict=True):
        forms = NOT_CODED[kind] if kind != "now" else ASSESSMENTS if late else COMPLAINTS
        (assessment if late else story).append(Finding(diagnosis, kind, _sentence(forms, diagnosis.term, writer)))
    writer.shuffle(story)
    writer.shuffle(assessment)
    patient = f"{writer.randint(*AGES)}-year-old {sex}."
    arrange = _with_sections if difficulty.sections else _in_short
    return Note(arrange(patient, story, assessment, writer), story + assessment)


def _drawn(names: Sequence[Diagnosis], n_names: int, sex: str, writer: random.Random) -> list[Diagnosis]:
    by_category: dict[str, Diagnosis] = {}
    for diagnosis in writer.sample(names, len(names)):
        if sex_of(diagnosis) in (None, sex):
            by_category.setdefault(category(diagnosis.code), diagnosis)
        if len(by_category) == n_names:
            return list(by_category.values())
    raise ValueError(f"{len(by_category)} categories are too few for a note with {n_names} findings")


def _sentence(forms: Sequence[str], term: str, writer: random.Random) -> str:
    return writer.choice(forms).format(
        term=term,
        Term=term[0].upper() + term[1:],
        weeks=writer.randint(2, 9),
        month=writer.choice(MONTHS),
        year=writer.randint(*YEARS),
    )


def _in_short(patient: str, story: list[Finding], assessment: list[Finding], writer: random.Random) -> str:
    plan = _sentence(PLANS, "it", writer)
    return f"{patient} {_joined(story)} Assessment: {_joined(assessment)} Plan: {plan}"


def _with_sections(patient: str, story: list[Finding], assessment: list[Finding], writer: random.Random) -> str:
    talk = [_sentence((text,), "it", writer) for text in writer.sample(SMALL_TALK, 4)]
    history = [finding.sentence for finding in story]
    for sentence in talk[:3]:
        history.insert(writer.randint(0, len(history)), sentence)
    numbered = [f"{number}. {finding.sentence}" for number, finding in enumerate(assessment, start=1)]
    vitals = f"BP {writer.randint(104, 158)}/{writer.randint(62, 96)}, pulse {writer.randint(56, 98)}. {talk[3]}"
    plan = " ".join(_sentence((text,), "it", writer) for text in writer.sample(PLANS, 3))
    return "\n".join(
        [
            f"History of present illness: {patient} {' '.join(history)}",
            f"Exam: {vitals}",
            "Assessment:",
            *numbered,
            f"Plan: {plan}",
        ]
    )


def _joined(findings: list[Finding]) -> str:
    return " ".join(finding.sentence for finding in findings)
