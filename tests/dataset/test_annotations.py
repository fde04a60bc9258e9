import json
import os

import pytest
from hypothesis import given, strategies as st

from aigve_cli.dataset.annotations import (
    Annotations,
    Entry,
    path_to_relative,
    read_annotations,
    samples_to_annotations,
    write_annotations,
)
from aigve_cli.dataset.samples import load_dataset
from aigve_cli.errors import UsageError


@pytest.fixture
def folder(tmp_path):
    for name in ("a.mp4", "b.mp4", "r.mp4"):
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def written(folder, document, name="annotations.json"):
    path = folder / name
    text = document if isinstance(document, str) else json.dumps(document)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("key", ["data_list", "datset_list", "dataset_list"])
def test_reads_every_list_name(folder, key):
    path = written(folder, {key: [{"video_path_pd": "a.mp4"}]})
    assert read_annotations(path).entries == (Entry("a.mp4"),)


def test_reads_the_forms_in_the_wild(folder):
    path = written(
        folder,
        "\ufeff"
        + json.dumps(
            {
                "metainfo": {"length": 999, "source": 3},
                "data_list": [
                    {"id": 0, "prompt_gt": " x ", "overall": 2, "video_path_pd": "a.mp4"},
                    {"prompt_gt": "", "video_path_pd": "b.mp4", "video_path_gt": "r.mp4"},
                    {"prompt_gt": None, "video_path_pd": str(folder / "b.mp4")},
                    {"prompt_gt": "no video"},
                    "nonsense",
                ],
                "reference_list": ["r.mp4", "a.mp4", 7],
            }
        ),
    )
    dataset = load_dataset(annotations=path)
    assert [
        (s.name, s.generated and s.generated.name, s.reference and s.reference.name, s.prompt)
        for s in dataset.samples
    ] == [
        ("a.mp4", "a.mp4", None, "x"),
        ("a.mp4#2", None, "a.mp4", None),
        ("b.mp4", "b.mp4", "r.mp4", None),
        ("b.mp4#2", "b.mp4", None, None),
    ]
    assert dataset.samples[0].extra == {"id": 0, "overall": 2}
    assert [item.reason for item in dataset.left_out] == [
        "entry 4 has no 'video_path_pd'",
        "entry 5 has no 'video_path_pd'",
        "reference_list: entry 3 is not a path",
    ]


def test_reads_csv(folder):
    path = written(
        folder,
        "\ufeffid,prompt_gt,video_path_pd,overall,subject,score\r\n"
        '007,"a, ""b""\nc",a.mp4,2,[\'x\'],NaN\r\n,,b.mp4,1.5,"[""y""]",\r\n',
        "bench.csv",
    )
    entries = read_annotations(path).entries
    assert entries[0] == Entry(
        "a.mp4",
        None,
        'a, "b"\nc',
        {"id": "007", "overall": 2, "subject": "['x']", "score": "NaN"},
    )
    assert entries[1] == Entry("b.mp4", None, None, {"overall": 1.5, "subject": ["y"]})


def test_nan_of_pandas_is_no_value(folder):
    path = written(folder, '{"data_list": [{"video_path_pd": "a.mp4", "score": NaN}]}')
    assert read_annotations(path).entries[0].extra == {"score": None}


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ('{"data_list": [\n  {"a": }]}', "x.json", "line 2, column 9"),
        ("[]", "x.json", "no list 'data_list'"),
        ("", "x.json", "line 1, column 1"),
        ('{"data_list": []}', "x.json", "names no video"),
        ('{"data_list": [{}]}', "x.json", "names no video (entry 1 has no"),
        ("a,b\n1,2\n", "x.csv", "no column 'video_path_pd'"),
        ("video_path_pd,prompt_gt\na.mp4,one, two\n", "x.csv", "line 2: 3 cells"),
        ('video_path_pd,prompt_gt\na.mp4,"open\n', "x.csv", "not valid CSV"),
        ('{"data_list": [{"video_path_pd": "zz.mp4"}]}', "x.json", "video_dir"),
        ("[" * 100000, "x.json", "nested too deeply"),
    ],
)
def test_malformed_files_say_where(folder, text, name, message):
    with pytest.raises(UsageError) as error:
        load_dataset(annotations=written(folder, text, name))
    assert message in error.value.message


def test_missing_and_undecodable_files(folder):
    with pytest.raises(UsageError, match="does not exist"):
        load_dataset(annotations=folder / "nope.json")
    with pytest.raises(UsageError, match="cannot be read"):
        load_dataset(annotations=folder)
    (folder / "latin.json").write_bytes(b'{"\xe9')
    with pytest.raises(UsageError, match="not UTF-8"):
        load_dataset(annotations=folder / "latin.json")


def test_a_missing_video_stays_and_is_noted(folder):
    path = written(
        folder,
        {
            "data_list": [
                {"video_path_pd": "a.mp4", "video_path_gt": "gone.mp4"},
                {"video_path_pd": "lost.mp4"},
                {"video_path_pd": "x" * 5000},
            ]
        },
    )
    dataset = load_dataset(annotations=path)
    assert len(dataset.generated) == 3
    assert "2 videos named" in dataset.notes[0]
    assert "1 reference named" in dataset.notes[1]


def test_the_same_entry_counts_once(folder):
    entry = {"video_path_pd": "a.mp4", "prompt_gt": "x"}
    dataset = load_dataset(
        annotations=written(folder, {"data_list": [entry, entry, {**entry, "prompt_gt": "y"}]})
    )
    assert [sample.name for sample in dataset.samples] == ["a.mp4", "a.mp4#2"]
    assert dataset.left_out[0].reason == "named twice in the annotations"


def test_video_dir_is_found_beside_the_file(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    document = {"data_list": [{"video_path_pd": "a.mp4"}], "metainfo": {"source": str(folder)}}
    assert load_dataset(annotations=written(other, document)).video_dir == folder
    assert load_dataset(annotations=written(folder, document)).video_dir == folder
    (other / "annotations").mkdir()
    (other / "evaluate").mkdir()
    (other / "evaluate" / "a.mp4").touch()
    staged = written(other / "annotations", document, "evaluate.json")
    assert load_dataset(annotations=staged).video_dir == other / "evaluate"
    assert load_dataset(annotations=staged, video_dir=folder).video_dir == folder


def test_without_input_the_current_folder_is_used(folder, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.raises(UsageError, match="No input") as error:
        load_dataset()
    assert "--input-dir" in error.value.hint
    written(folder, {"data_list": [{"video_path_pd": "a.mp4"}]})
    dataset = load_dataset()
    assert dataset.video_dir == folder
    assert "annotations.json" in dataset.notes[0]
    (folder / "evaluate").mkdir()
    (folder / "evaluate" / "b.mp4").touch()
    (folder / "annotations").mkdir()
    written(folder, {"data_list": [{"video_path_pd": "b.mp4"}]}, "annotations/evaluate.json")
    assert load_dataset().generated[0].generated == folder / "evaluate" / "b.mp4"


@pytest.mark.parametrize(
    "options",
    [
        {"input_dir": ".", "annotations": "x.json"},
        {"reference_dir": "."},
        {"annotations": "x.json", "reference_dir": "."},
        {"video_dir": "."},
        {"input_dir": ".", "video_dir": "."},
        {"input_dir": ".", "prompt": "x", "prompt_from_name": True},
        {"input_dir": ".", "prompt": " "},
        {"input_dir": ".", "reference_dir": "."},
        {"annotations": "annotations.json", "video_dir": "nope"},
    ],
)
def test_contradicting_options(folder, monkeypatch, options):
    monkeypatch.chdir(folder)
    written(folder, {"data_list": [{"video_path_pd": "a.mp4"}]})
    paths = ("input_dir", "annotations", "reference_dir", "video_dir")
    with pytest.raises(UsageError):
        load_dataset(**{k: folder / v if k in paths else v for k, v in options.items()})


def test_paths_are_relative_through_linked_folders(tmp_path):
    for name in ("real/in", "elsewhere/ref"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "elsewhere/ref/r.mp4").write_bytes(b"r")
    (tmp_path / "in").symlink_to("real/in")
    folder = tmp_path / "in"
    relative = path_to_relative(tmp_path / "elsewhere/ref/r.mp4", folder)
    assert relative == "../../elsewhere/ref/r.mp4"
    assert os.path.exists(folder / relative)


def test_writing_replaces_a_link_and_leaves_nothing_behind(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "out.json").symlink_to(victim)
    write_annotations(tmp_path / "out.json", Annotations((Entry("ü \udcff.mp4"),)))
    assert victim.read_text() == "precious"
    assert sorted(os.listdir(tmp_path)) == ["out.json", "victim"]
    assert read_annotations(tmp_path / "out.json").entries[0].generated == "ü \udcff.mp4"
    with pytest.raises(ValueError, match="JSON"):
        write_annotations(tmp_path / "bad.json", Annotations((Entry("a", extra={"x": 1e999}),)))
    assert sorted(os.listdir(tmp_path)) == ["out.json", "victim"]


text = st.text(min_size=1, max_size=12).filter(str.strip)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)
known = {"prompt_gt", "video_path_pd", "video_path_gt"}
entries = st.builds(
    Entry,
    text,
    st.none() | text,
    st.none() | text.map(str.strip),
    st.dictionaries(text.filter(lambda key: key not in known), values, max_size=3),
)


@given(st.lists(entries, max_size=4), st.lists(text, max_size=2), text)
def test_what_is_written_is_read(tmp_path_factory, entries, references, source):
    path = tmp_path_factory.getbasetemp() / "round.json"
    annotations = Annotations(tuple(entries), tuple(references), source)
    write_annotations(path, annotations)
    assert read_annotations(path) == annotations


def test_a_prepared_data_set_is_loaded_as_it_was(tmp_path):
    for name in ("in/a.mp4", "in/s/b.mp4", "ref/a.mov", "ref/x.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    before = load_dataset(
        input_dir=tmp_path / "in", reference_dir=tmp_path / "ref", recursive=True, prompt="p"
    )
    path = tmp_path / "in" / "annotations.json"
    write_annotations(path, samples_to_annotations(before.samples, before.video_dir))
    after = load_dataset(annotations=path)
    strip = [(s.generated, s.reference and s.reference.resolve(), s.prompt) for s in after.samples]
    assert sorted(strip, key=str) == sorted(
        ((s.generated, s.reference, s.prompt) for s in before.samples), key=str
    )
