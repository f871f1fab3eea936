"""Visit transcripts: a diagnosis inside the small talk of a visit.

The small talk is about mishaps that have codes of their own (three each: first visit, later visit, sequela), so a
search for more than the diagnosis fills the few hits that are shown with codes of mishaps.
"""

import random

SYSTEM_PROMPT = "Find the ICD-10-CM code for the diagnosis. Search for it, then answer with the code only."

PATIENTS = ("Woman", "Man", "Teacher", "Farmer", "Nurse", "Driver", "Student", "Retired cook", "Painter", "Welder")
MISHAPS = (
    "struck by a soccer ball",
    "struck by a tennis racquet",
    "struck by a hockey stick",
    "struck by a golf ball",
    "hit by a baseball bat",
    "bitten by a sea lion",
    "bitten by a squirrel",
    "bitten by a rat",
    "pecked by a chicken",
    "pecked by a turkey",
    "walked into furniture",
    "walked into a lamppost",
    "fall from a playground swing",
    "fall from a ladder",
    "fall from a cliff",
    "fall from a tree",
    "contact with a garden tool",
    "contact with a hot toaster",
    "contact with a hot stove",
    "hurt by a lawn mower",
    "accident on a ski lift",
)
TEMPLATES = (
    "{patient}, {age}: {first} once, now {term}, {second} in May.",
    "{patient} of {age}. Past: {first}. Known {term}. Also {second}.",
    "{patient}, {age}, {first} today. Has {term}. Also {second}.",
    "{patient}, {age}. Today: {first}. We found {term}. Before: {second}.",
    "{patient}, {age}. Last year: {first}. Diagnosis {term}. In June: {second}.",
    "{patient} ({age}), {first}. We treat {term}. As a child: {second}.",
)


def write_transcript(term: str, writer: random.Random) -> str:
    """One to three sentences that mention `term` word for word, once."""
    first, second = writer.sample(MISHAPS, 2)
    return writer.choice(TEMPLATES).format(
        patient=writer.choice(PATIENTS), age=writer.randint(19, 88), first=first, second=second, term=term
    )


def prompt_messages(transcript: str) -> list[dict[str, str]]:
    """What the agent is given."""
    return [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": transcript}]
