import pytest
from hypothesis import given, strategies as st

from aigve_cli.dataset.pairing import (
    EXTENSIONS,
    Pair,
    Suffixes,
    files_to_pairs,
    folders_to_pairs,
)

SUFFIXES = Suffixes()


def pairs_of(*files, suffixes=SUFFIXES):
    return dict(files_to_pairs(files, suffixes).pairs)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["4056.mp4", "4056_Synthetic.MOV"], {"4056_Synthetic.MOV": "4056.mp4"}),
        (["photo.mp4", "photosynthetic.mp4"], {"photo.mp4": None, "photosynthetic.mp4": None}),
        (["photosynthetic.mp4"], {"photosynthetic.mp4": None}),
        (
            ["a.mp4", "a_synthetic.mp4", "a_generated.mp4", "a-generated.mkv"],
            {"a_synthetic.mp4": "a.mp4", "a_generated.mp4": "a.mp4", "a-generated.mkv": "a.mp4"},
        ),
        (["a.mov", "a.mp4", "a_synthetic.mp4"], {"a_synthetic.mp4": "a.mp4"}),
        (["a.avi", "a.mov", "a_synthetic.gif"], {"a_synthetic.gif": "a.mov"}),
        (
            ["a.mp4", "a_synthetic.mp4", "a_synthetic_generated.mp4"],
            {"a_synthetic.mp4": "a.mp4", "a_synthetic_generated.mp4": "a.mp4"},
        ),
        (["a.mp4", "a__synthetic.mp4"], {"a__synthetic.mp4": None}),
        (
            [
                "a.mp4",
                "a_synthetic_1.mp4",
                "a_synthetic-2.mp4",
                "a_synthetic_seed2.mp4",
                "a-GENERATED_Seed_7.mp4",
            ],
            {
                "a_synthetic_1.mp4": "a.mp4",
                "a_synthetic-2.mp4": "a.mp4",
                "a_synthetic_seed2.mp4": "a.mp4",
                "a-GENERATED_Seed_7.mp4": "a.mp4",
            },
        ),
        (["A.mp4", "a.mp4", "a_synthetic.mp4"], {"a_synthetic.mp4": "a.mp4"}),
        (["A.mp4", "a.mp4", "A_synthetic.mp4"], {"A_synthetic.mp4": "A.mp4"}),
        (["A.mp4", "a.mov", "a_synthetic.mp4"], {"a_synthetic.mp4": "a.mov"}),
        (["crowd_generated_scene12.mp4"], {"crowd_generated_scene12.mp4": None}),
        (["x/a.mp4", "y/a_synthetic.mp4"], {"y/a_synthetic.mp4": None}),
        (["X/a.mp4", "x/a_synthetic.mp4"], {"x/a_synthetic.mp4": None}),
        (["x/a.mp4", "x/a_synthetic.mp4"], {"x/a_synthetic.mp4": "x/a.mp4"}),
        (["synthetic.mp4"], {"synthetic.mp4": None}),
        (["_synthetic.mp4", "b.mp4"], {"_synthetic.mp4": None}),
        (
            ["caf\u00e9.mp4", "cafe\u0301_synthetic.mp4"],
            {"cafe\u0301_synthetic.mp4": "caf\u00e9.mp4"},
        ),
        (["a, b 'c'.mp4", "a, b 'c'_synthetic.mp4"], {"a, b 'c'_synthetic.mp4": "a, b 'c'.mp4"}),
        (["v1.5.mp4", "v1.5_generated.mp4"], {"v1.5_generated.mp4": "v1.5.mp4"}),
    ],
)
def test_mixed_folder(files, expected):
    assert pairs_of(*files) == expected


def test_every_reference_without_a_role_has_a_reason():
    result = files_to_pairs(["a.mov", "a.mp4", "a_synthetic.mp4", "b.mp4"], SUFFIXES)
    assert result.left_out == {
        "a.mov": "'a.mp4' is taken as the reference of 'a_synthetic.mp4'",
        "b.mp4": "a reference to which no generated video belongs",
    }


def test_suffixes_are_chosen_by_the_user():
    assert pairs_of("a.mp4", "a-fake.mp4", suffixes=Suffixes(" fake , ")) == {"a-fake.mp4": "a.mp4"}
    only_dash = Suffixes(["-fake"])
    assert only_dash.base("a_fake") is None
    assert only_dash.base("a-FAKE_3") == "a"
    assert Suffixes("").base("a_synthetic") is None
    assert Suffixes("a.b").base("x_a-b") is None
    assert Suffixes("gen,x_gen").base("a_x_gen") == "a"


def test_folder_of_references_pairs_equal_stems():
    result = folders_to_pairs(
        ["a.mp4", "sub/b.mov", "c.mp4"],
        ["a.mov", "a.mkv", "sub/B.mp4", "b.mov", "d.mp4"],
        SUFFIXES,
    )
    assert result.pairs == (
        Pair("a.mp4", "a.mov"),
        Pair("c.mp4", None),
        Pair("sub/b.mov", "sub/B.mp4"),
    )
    assert result.references == ("a.mkv", "b.mov", "d.mp4")
    assert "'a.mkv', 'a.mov'" in result.notes[0]


def test_folder_of_references_points_out_suffixes():
    result = folders_to_pairs(["a_synthetic.mp4"], ["a.mp4"], SUFFIXES)
    assert result.pairs == (Pair("a_synthetic.mp4", None),)
    assert result.references == ("a.mp4",)
    assert "only equal stems pair" in result.notes[0]


names = st.builds(
    lambda folder, stem, mark, extension: f"{folder}{stem}{mark}.{extension}",
    st.sampled_from(["", "x/", "X/"]),
    st.sampled_from(["a", "A", "b", "photo", "."]),
    st.sampled_from(["", "_synthetic", "-Generated", "_synthetic_1", "_synthetic_generated"]),
    st.sampled_from([*EXTENSIONS, "MP4"]),
)
files = st.lists(names, unique=True, max_size=12)


@given(files, st.randoms(use_true_random=False))
def test_order_of_input_never_matters(files, random):
    shuffled = random.sample(files, len(files))
    assert files_to_pairs(shuffled, SUFFIXES) == files_to_pairs(files, SUFFIXES)
    assert folders_to_pairs(shuffled, shuffled, SUFFIXES) == folders_to_pairs(
        files, files, SUFFIXES
    )


@given(files)
def test_every_file_has_exactly_one_role(files):
    result = files_to_pairs(files, SUFFIXES)
    generated = [pair.generated for pair in result.pairs]
    references = {pair.reference for pair in result.pairs} - {None}
    assert sorted([*generated, *references, *result.left_out]) == sorted(files)
    assert generated == sorted(generated)


@given(files, files)
def test_every_file_of_two_folders_has_exactly_one_role(generated, references):
    result = folders_to_pairs(generated, references, SUFFIXES)
    paired = {pair.reference for pair in result.pairs} - {None}
    assert [pair.generated for pair in result.pairs] == sorted(generated)
    assert sorted([*paired, *result.references]) == sorted(references)


@given(files)
def test_a_folder_is_paired_with_its_copy_one_to_one(files):
    result = folders_to_pairs(files, files, SUFFIXES)
    assert all(pair.generated == pair.reference for pair in result.pairs)


@given(st.text(max_size=8))
def test_suffix_is_taken_off_any_stem(stem):
    assert SUFFIXES.base(f"{stem}_synthetic_seed12") == (SUFFIXES.base(stem) or stem) or (
        SUFFIXES.base(stem) == ""
    )
