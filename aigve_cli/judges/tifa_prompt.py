"""The words by which a text judge is asked to write TIFA's questions."""

from __future__ import annotations

KINDS = (
    "object",
    "human",
    "animal",
    "food",
    "activity",
    "attribute",
    "counting",
    "color",
    "material",
    "spatial",
    "location",
    "shape",
    "other",
)
"""Of the elements of a prompt."""

INSTRUCTIONS = """\
Write questions that show whether a video has everything that its prompt asks for. Whoever answers
them sees the video and does not know the prompt.

1. Find the elements of the prompt: every word or group of words that says something that can be
seen. Give each one type: object, human, animal, food, activity, attribute, counting, color,
material, spatial (where things are to one another), location, shape, or other (a style, a kind
of shot, the weather, a mood).
2. Write one or two questions about each element: one with the choices "yes" and "no" whose answer
is "yes", and, where it makes sense, one with four choices.
3. The answer follows from the prompt alone. It is one of the choices, letter by letter. The other
choices are wrong for sure: no synonym of the answer, and nothing that it may also be called.
4. Each question can be understood without the others, and no two are the same. Ask after nothing
that the prompt does not say. Write small letters, and numbers of things as digits.
5. Write 40 questions at most.
"""

REPLY = "Reply with one JSON object of the form of the examples, and no other words."

EXAMPLES = """\
Example. The prompt: "Two grey donkeys pull a wooden cart along the beach at sunset."
{"elements": [
{"element": "donkeys", "type": "animal", "questions": [
  {"question": "are there donkeys?", "choices": ["yes", "no"], "answer": "yes"},
  {"question": "what animals are there?", "choices": ["donkeys", "oxen", "dogs", "camels"],
   "answer": "donkeys"}]},
{"element": "two", "type": "counting", "questions": [
  {"question": "how many donkeys are there?", "choices": ["1", "2", "3", "4"], "answer": "2"}]},
{"element": "grey", "type": "color", "questions": [
  {"question": "are the donkeys grey?", "choices": ["yes", "no"], "answer": "yes"},
  {"question": "what color are the donkeys?", "choices": ["grey", "white", "red", "brown"],
   "answer": "grey"}]},
{"element": "cart", "type": "object", "questions": [
  {"question": "is there a cart?", "choices": ["yes", "no"], "answer": "yes"}]},
{"element": "wooden", "type": "material", "questions": [
  {"question": "what is the cart made of?", "choices": ["wood", "steel", "plastic", "stone"],
   "answer": "wood"}]},
{"element": "pull", "type": "activity", "questions": [
  {"question": "do the donkeys pull the cart?", "choices": ["yes", "no"], "answer": "yes"}]},
{"element": "beach", "type": "location", "questions": [
  {"question": "is this on a beach?", "choices": ["yes", "no"], "answer": "yes"},
  {"question": "what place is this?", "choices": ["beach", "forest", "city", "mountains"],
   "answer": "beach"}]},
{"element": "sunset", "type": "other", "questions": [
  {"question": "does the sun set?", "choices": ["yes", "no"], "answer": "yes"}]}
]}

Example. The prompt: "close-up, a baker slices a round loaf to the left of a jar of honey"
{"elements": [
{"element": "close-up", "type": "other", "questions": [
  {"question": "is this a close-up?", "choices": ["yes", "no"], "answer": "yes"}]},
{"element": "baker", "type": "human", "questions": [
  {"question": "is there a baker?", "choices": ["yes", "no"], "answer": "yes"}]},
{"element": "slices", "type": "activity", "questions": [
  {"question": "does the baker slice a loaf?", "choices": ["yes", "no"], "answer": "yes"},
  {"question": "what does the baker do?", "choices": ["slice", "knead", "eat", "wrap"],
   "answer": "slice"}]},
{"element": "loaf", "type": "food", "questions": [
  {"question": "is there a loaf?", "choices": ["yes", "no"], "answer": "yes"},
  {"question": "what is being sliced?", "choices": ["loaf", "cheese", "melon", "fish"],
   "answer": "loaf"}]},
{"element": "round", "type": "shape", "questions": [
  {"question": "is the loaf round?", "choices": ["yes", "no"], "answer": "yes"}]},
{"element": "jar of honey", "type": "food", "questions": [
  {"question": "is there a jar of honey?", "choices": ["yes", "no"], "answer": "yes"}]},
{"element": "to the left of", "type": "spatial", "questions": [
  {"question": "is the loaf to the left of the jar?", "choices": ["yes", "no"], "answer": "yes"}]}
]}
"""
