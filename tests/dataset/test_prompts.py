import json

import pytest

from aigve_cli.dataset.pairing import Suffixes
from aigve_cli.dataset.prompts import (
    NamedPrompt,
    match_prompts,
    name_to_prompt,
    read_prompt_texts,
)
from aigve_cli.dataset.samples import load_dataset
from aigve_cli.errors import UsageError

SUFFIXES = Suffixes()


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("a.mp4", "a_synthetic.mp4", "b, c_synthetic.mp4"):
        (folder / name).touch()
    return folder


def load(folder, text, name):
    path = folder.parent / name
    path.write_text(text, encoding="utf-8")
    dataset = load_dataset(input_dir=folder, prompts=path)
    return [sample.prompt for sample in dataset.samples], dataset


RECORDS = [{"name": "a.mp4", "caption": "A, a"}, {"name": "b, c_synthetic", "caption": "B"}]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.csv", 'video,prompt\na_synthetic.mp4,"A, a"\n"b, c",B\n'),
        ("p.csv", '\ufeffFile;Text\r\na;"A, a"\r\n"b, c";B\r\n'),
        ("p.tsv", "video_path_pd\tprompt_gt\nvideos/a_synthetic.mp4\tA, a\nb, c\tB\n"),
        ("p.json", json.dumps(RECORDS)),
        ("p.json", json.dumps({"data_list": RECORDS})),
        ("p.json", json.dumps({"a": "A, a", "b, c_synthetic.mov": "B"})),
        ("p.jsonl", "\n".join(map(json.dumps, RECORDS)) + "\n\n"),
        ("p.txt", "a_synthetic.mp4\tA, a\n\nb, c\tB\n"),
        ("p.txt", "A, a\nB\n\n"),
    ],
)
def test_every_kind_of_file(folder, name, text):
    prompts, dataset = load(folder, text, name)
    assert prompts == ["A, a", "B"]
    assert dataset.prompt_dir == str(folder.parent / name)
    assert read_prompt_texts(folder.parent / name) == ["A, a", "B"]


def test_unmatched_prompts_and_videos_are_counted(folder):
    prompts, dataset = load(folder, "a.mp4\tA\nz.mp4\tZ\n", "p.txt")
    assert prompts == ["A", None]
    assert "1 prompts of" in dataset.notes[0]
    assert "'z.mp4'" in dataset.notes[0]
    assert "1 videos have no prompt" in dataset.notes[1]


def test_order_of_plain_lines_is_announced(folder):
    assert "'a_synthetic.mp4' first" in load(folder, "A\nB", "p.txt")[1].notes[0]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.txt", "one\n", "1 plain lines for 2 generated"),
        ("p.txt", "one\n\n\ntwo", "4 plain lines"),
        ("p.txt", "a\tA\nb\n", "line 2: no tab"),
        ("p.csv", "video,prompt\na,one, two\n", "line 2: 3 cells"),
        ("p.csv", "clip,prompt\na,x\n", "line 2: no video is named"),
        ("p.json", "{", "line 1"),
        ("p.json", '{"a": 1}', "neither a list"),
        ("p.jsonl", '{"video": "a"}\n{"video"}', "line 2, column 9"),
        ("p.jsonl", "7", "line 1: no video"),
        ("p.csv", "video,prompt\na,x\na,y\n", "gives 'a' two prompts"),
        ("p.xlsx", "", "'.xlsx'"),
    ],
)
def test_wrong_files_say_what_and_where(folder, name, text, message):
    with pytest.raises(UsageError) as error:
        load(folder, text, name)
    assert message in error.value.message


ALONE = [
    ("p.csv", 'prompt\n"A, a"\nB\n'),
    ("p.csv", 'id,Caption\n1,"A, a"\n2,B\n3,\n'),
    ("p.tsv", "prompt_gt\tlength\nA, a\t3\nB\t4\n"),
    ("p.json", json.dumps(["A, a", " ", "B"])),
    ("p.json", json.dumps([{"prompt": "A, a"}, {"text": "B"}, {"prompt": None}])),
    ("p.json", json.dumps({"data_list": [{"prompt_gt": "A, a"}, {"prompt_gt": "B"}]})),
    ("p.jsonl", '{"prompt": "A, a"}\n"B"\n'),
]


@pytest.mark.parametrize(("name", "text"), ALONE)
def test_prompts_without_videos(folder, name, text):
    path = folder.parent / name
    path.write_text(text, encoding="utf-8")
    assert read_prompt_texts(path) == ["A, a", "B"]
    # Where there are videos, it must be said whose they are.
    with pytest.raises(UsageError, match="no video is named"):
        load_dataset(input_dir=folder, prompts=path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.json", '["a", 7]', "entry 2: neither a text nor an object"),
        ("p.jsonl", '"a"\n[]', "line 2: neither a text nor an object"),
        ("p.csv", "a red car\na dog\n", "has no prompt"),
        ("p.csv", "prompt\na, b\n", "line 2: 2 cells"),
        ("p.json", "[]", "has no prompt"),
        ("p.json", '[{"video": "a.mp4"}]', "has no prompt"),
        ("p.json", "7", "neither a list"),
        ("p.txt", "\n", "has no prompt"),
    ],
)
def test_files_without_prompts_that_can_be_read(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as error:
        read_prompt_texts(path)
    assert message in error.value.message


def test_more_exact_names_go_first():
    named = [
        NamedPrompt("x/a.mp4", "in x"),
        NamedPrompt("a.mp4", "by name"),
        NamedPrompt("a", "by stem"),
    ]
    names = ["x/a.mp4", "y/a.mp4", "y/a.mov", "y/a_synthetic_2.mp4"]
    prompts, unused = match_prompts(named, names, SUFFIXES)
    assert prompts["x/a.mp4"] == "in x"
    assert prompts["y/a.mp4"] == "by name"
    assert unused == ()


def test_an_ambiguous_prompt_is_not_taken():
    named = [NamedPrompt("x/a.mp4", "X"), NamedPrompt("y/a.mp4", "Y")]
    assert match_prompts(named, ["a.mp4", "z/a.mp4"], SUFFIXES)[0] == {}


@pytest.mark.parametrize(
    ("name", "prompt"),
    [
        ("A beach, pixel art-0.mp4", "A beach, pixel art"),
        ("a_red_car-12_synthetic_seed3.mp4", "a red car"),
        ("sub/a red_car.v2.mp4", "a red_car.v2"),
        ("view of paris-2024.mp4", "view of paris-2024"),
        ("_synthetic.mp4", None),
        ("-0.mp4", None),
    ],
)
def test_prompt_from_name(name, prompt):
    assert name_to_prompt(name, SUFFIXES) == prompt


def test_prompts_given_outright_replace_those_of_annotations(folder):
    path = folder / "annotations.json"
    rows = [{"video_path_pd": "a.mp4", "prompt_gt": "old"}, {"video_path_pd": "a_synthetic.mp4"}]
    path.write_text(json.dumps({"data_list": rows}))
    dataset = load_dataset(annotations=path, prompt=" new ")
    assert [sample.prompt for sample in dataset.samples] == ["new", "new"]
    assert "1 prompts of the annotations give way" in dataset.notes[0]
    (folder / "p.txt").write_text("a_synthetic.mp4\tnew\n")
    dataset = load_dataset(annotations=path, prompts=folder / "p.txt")
    assert [sample.prompt for sample in dataset.samples] == ["old", "new"]


@pytest.mark.parametrize("text", ["", "\n", "a;a red car\n", "video,prompt\n"])
def test_a_file_without_prompts_is_not_taken_in_silence(folder, text):
    with pytest.raises(UsageError, match="holds no prompts"):
        load(folder, text, "prompts.csv")
