"""The words by which a text judge is asked for DSG's statements, questions and dependencies."""

from __future__ import annotations

from typing import NamedTuple


class Example(NamedTuple):
    """A statement, as it should be answered."""

    statement: str
    question: str
    parents: tuple[int, ...] = ()


TUPLES = """\
Take the prompt of a video apart into the smallest statements about what can be seen. Write each
as one tuple: its kind, a finer kind, and in brackets what it is about.

entity - whole (dog), entity - part (dog's collar)
attribute - color (dog, brown); so also material, shape, size, state, texture, type
relation - spatial (dog, sofa, on): how things stand to one another
action - (dog, ball, chase): who does what to whom; action - (dog, run) without anybody
global - (watercolour): of the whole video, such as its style, its light, or how it is filmed
other - count (dogs, ==3), other - text rendering (sign, "OPEN")

Every statement says one thing, no two say the same, and none says what the prompt does not. A
thing that attributes, relations or actions are about has a tuple of its own, before those. Number
the tuples from 1 on; write 40 at most.
"""

QUESTIONS = """\
You have the prompt of a video and the statements that it was taken apart into. Write one question
for each statement, with the statement's number. The answer is yes if the statement holds in the
video, and no if not. Each question asks after its own statement alone and can be understood
without the others: it names what it is about.
"""

DEPENDENCIES = """\
You have the prompt of a video and the statements that it was taken apart into. Say for each
statement which others must hold before it makes sense to ask after it: its parents. An attribute
needs its entity, a part its whole, a count what is counted, a relation or an action everything
that takes part. A statement that needs no other has no parents. Name only what is needed at
once, not what the parents need themselves, and no statement as its own parent.
"""

REPLY = "Reply with one JSON object of the form of the examples, and no other words."

EXAMPLES: tuple[tuple[str, tuple[Example, ...]], ...] = (
    (
        "Two grey donkeys pull a wooden cart along the beach, watercolour.",
        (
            Example("entity - whole (donkeys)", "Are there donkeys?"),
            Example("entity - whole (cart)", "Is there a cart?"),
            Example("entity - whole (beach)", "Is there a beach?"),
            Example("other - count (donkeys, ==2)", "Are there two donkeys?", (1,)),
            Example("attribute - color (donkeys, grey)", "Are the donkeys grey?", (1,)),
            Example("attribute - material (cart, wood)", "Is the cart made of wood?", (2,)),
            Example("action - (donkeys, cart, pull)", "Do the donkeys pull the cart?", (1, 2)),
            Example("relation - spatial (cart, beach, on)", "Is the cart on the beach?", (2, 3)),
            Example("global - (watercolour)", "Is this a watercolour?"),
        ),
    ),
    (
        "close-up of a baker's hands, a ring on one finger, slicing a round loaf",
        (
            Example("global - (close-up)", "Is this a close-up?"),
            Example("entity - whole (baker)", "Is there a baker?"),
            Example("entity - part (baker's hands)", "Are the baker's hands to be seen?", (2,)),
            Example("entity - whole (ring)", "Is there a ring?"),
            Example("entity - whole (loaf)", "Is there a loaf?"),
            Example("attribute - shape (loaf, round)", "Is the loaf round?", (5,)),
            Example(
                "relation - spatial (ring, baker's hands, on)",
                "Is the ring on one of the baker's fingers?",
                (3, 4),
            ),
            Example("action - (baker, loaf, slice)", "Does the baker slice the loaf?", (2, 5)),
        ),
    ),
)
"""Prompts with their statements, numbered from 1 on."""
