"""Light-VQA+: trunk and words by the goldens; a head that a checkpoint settles, or a refusal."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from aigve_models import light_words
from aigve_models.light_words import (
    MIN_FRAMES,
    MIN_VARYING_FRAMES,
    features_to_words,
    frames_to_consistency,
    frames_to_eighths,
    padded,
)
from aigve_models.lightvqa import KEY_FRAMES, MOTION
from aigve_models.lightvqa_plus import (
    INPUTS,
    SPATIAL,
    WORDS,
    LightVQAPlus,
    LightVQAPlusTrunk,
    build,
    build_for,
)
from torch import Tensor

from aigve_cli.weights import network_card
from tests.networks.checkpoints import LIGHTVQA, published_state
from tests.networks.light_goldens import (
    IMAGENET,
    distance,
    frame,
    golden,
    normalised,
    published_shapes,
    resized_by_pil,
    words_to_features,
    zeros,
)

# float32 rounds at 6e-8; another order of sums in 24 blocks moves the features by about 1e-6.
PARITY = 1e-5
# Softmax of cosines times 100: an error of 1e-7 in a cosine is 1e-5 in a probability.
PROBABILITIES = 1e-4

Golden = dict[str, Tensor]


@pytest.fixture(scope="module")
def clip_a() -> Golden:
    return golden("lightvqa_plus_clip_a")


@pytest.fixture(scope="module", params=["clip_a", "toy_bw"])
def words_golden(request: pytest.FixtureRequest, clip_a: Golden) -> Golden:
    """What the two inputs have in common: the ten texts' features belong to both."""
    texts = {key: clip_a[key] for key in ("text_feat_B", "text_feat_N")}
    return texts | golden(f"lightvqa_plus_{request.param}")


def noise(*shape: int, seed: int = 5) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def head_shapes(hidden: int, bottleneck: int, inputs: int = INPUTS) -> dict[str, list[int]]:
    return {
        "head.weight": [hidden, inputs],
        "head.bias": [hidden],
        "head1.weight": [bottleneck, hidden],
        "head1.bias": [bottleneck],
        "head2.weight": [1, bottleneck],
        "head2.bias": [1],
    }


def trunk_shapes() -> dict[str, list[int]]:
    shapes = published_shapes(LIGHTVQA)
    return {key: shape for key, shape in shapes.items() if not key.startswith("head")}


# --- the trunk ------------------------------------------------------------------------------------


def test_trunk_of_a_whole_checkpoint(clip_a: Golden) -> None:
    """Every stage of key frame 0, and what comes out; the head's tensors are left out."""
    network, state = build_for(published_state(LIGHTVQA), "trunk")
    network.load_state_dict(state)
    network.eval().requires_grad_(False)
    images = normalised(resized_by_pil(frame(0), 672, 1120), *IMAGENET)
    assert torch.equal(images[0, :, ::56, ::56], clip_a["spatial_sample"][0])
    means: list[Tensor] = []
    for part in (network.patch_embed, *network.layers):
        part.register_forward_hook(lambda _, __, tokens: means.append(tokens.mean((1, 2))))
    spatial = network(images)["spatial"]
    assert distance(means[0], clip_a["swin_patch_embed_mean"][:1]) < PARITY
    stages = clip_a["swin_stage_means_768"][:1].split([192, 384, 768, 768], dim=1)
    for ours, theirs in zip(means[1:], stages, strict=True):
        assert distance(ours, theirs) < PARITY
    assert spatial.dtype == torch.float32
    assert distance(spatial[:, :768], clip_a["swin_x"][:1]) < PARITY
    assert distance(spatial[:, 768:], clip_a["swin_z"][:1]) < PARITY


def test_trunk_is_strict() -> None:
    state = zeros(trunk_shapes())
    state["layers.0.blocks.0.mlp.fc9.bias"] = state.pop("layers.0.blocks.0.mlp.fc1.bias")
    network, state = build_for(state, "trunk")
    with pytest.raises(RuntimeError, match=r"Missing key.*layers\.0\.blocks\.0\.mlp\.fc1\.bias"):
        network.load_state_dict(state)


def test_pictures_do_not_see_each_other() -> None:
    network = build("trunk").eval().requires_grad_(False)
    images = noise(2, 3, 96, 128)
    together = network(images)["spatial"]
    assert distance(network(images[1:])["spatial"], together[1:]) < PARITY


@pytest.mark.parametrize("shape", [(1, 3, 96, 126), (1, 1, 96, 128), (3, 96, 128)])
def test_other_pictures_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"sides that 4 divides, not \["):
        build("trunk")(torch.zeros(shape))


# --- the head -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("hidden", "bottleneck"), [(1024, 64), (256, 8)])
def test_head_follows_from_its_shapes(hidden: int, bottleneck: int) -> None:
    checkpoint = zeros(trunk_shapes() | head_shapes(hidden, bottleneck))
    network, state = build_for(checkpoint)
    assert isinstance(network, LightVQAPlus)
    network.load_state_dict(state)
    assert network.fusion.head.weight.shape == (hidden, INPUTS)
    assert network.fusion.head1.weight.shape == (bottleneck, hidden)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        ({"hvs.weight": [3, 2]}, r"1 does not fit: hvs\.weight \[3, 2\]; 0 missing"),
        ({"head.weight": [32, 4112]}, r"1 does not fit: head\.weight \[32, 4112\]; 0 missing"),
        ({"head1.weight": [16, 33]}, r"1 does not fit: head1\.weight \[16, 33\]"),
        ({"head2.bias": None}, r"0 does not fit; 1 missing: head2\.bias; --set lightvqa-plus"),
        (
            {f"cross.{i}": [i] for i in range(12)},
            r"12 does not fit: cross\.0 \[0\], .*cross\.9 \[9\], … and 2 more",
        ),
    ],
)
def test_another_head_is_refused_by_name(spoil: dict[str, list[int] | None], says: str) -> None:
    shapes = trunk_shapes() | head_shapes(32, 16) | spoil
    with pytest.raises(ValueError, match=says):
        build_for(zeros({key: shape for key, shape in shapes.items() if shape is not None}))


def test_a_trunk_alone_has_no_head() -> None:
    with pytest.raises(ValueError, match=r"0 does not fit; 6 missing: head\.weight"):
        build_for(zeros(trunk_shapes()))


def test_head_reads_the_parts_in_the_order_of_the_parent() -> None:
    """Each input of the head counts its own place."""
    network = LightVQAPlus(1, 1).eval().requires_grad_(False)
    rows = [noise(KEY_FRAMES, size) for size in (SPATIAL, MOTION, WORDS, WORDS)]
    spatial, motion, bns, consistency = rows
    inputs = torch.cat([spatial[:, :768], bns, spatial[:, 768:], motion, consistency], dim=1)
    network.fusion.head.weight.copy_(torch.linspace(0, 0.1, INPUTS)[None])
    network.fusion.head.bias.fill_(50)
    for layer in (network.fusion.head1, network.fusion.head2):
        layer.weight.fill_(1)
        layer.bias.fill_(0)
    theirs = (50 + inputs.double() @ torch.linspace(0, 0.1, INPUTS).double()).clamp(0, 100)
    ours = network.head(*rows)["frame_scores"]
    assert ours.shape == (KEY_FRAMES, 1)
    assert distance(ours[:, 0], theirs) < PARITY


def test_scores_stay_within_0_and_100() -> None:
    network = LightVQAPlus(8, 4).eval().requires_grad_(False)
    rows = [noise(KEY_FRAMES, size) for size in (SPATIAL, MOTION, WORDS, WORDS)]
    network.fusion.head2.bias.fill_(1000)
    assert network.head(*rows)["frame_scores"].unique().tolist() == [100]
    network.fusion.head2.bias.fill_(-1000)
    assert network.head(*rows)["frame_scores"].unique().tolist() == [0]


@pytest.mark.parametrize("short", range(4))
def test_other_rows_are_refused(short: int) -> None:
    names, sizes = ("spatial", "motion", "bns", "consistency"), (SPATIAL, MOTION, WORDS, WORDS)
    rows = [torch.zeros(7 if i == short else 8, size) for i, size in enumerate(sizes)]
    says = rf"{names[short]} is \[8, {sizes[short]}\], not \[7, {sizes[short]}\]"
    with pytest.raises(ValueError, match=says):
        LightVQAPlus(1, 1).head(*rows)


def test_there_are_two_variants() -> None:
    with torch.device("meta"):
        assert isinstance(build(), LightVQAPlus)
        assert type(build("trunk")) is LightVQAPlusTrunk
    for make in (build, lambda variant: build_for({}, variant)):
        with pytest.raises(ValueError, match="no variant 'tiny'"):
            make("tiny")


# --- words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["B", "N"])
def test_words_of_a_key_frame(words_golden: Golden, kind: str) -> None:
    features = words_golden["local_image_feat_first15_singlenorm"].reshape(1, -1)
    ours = features_to_words(features, words_golden[f"text_feat_{kind}"])
    theirs = words_golden[f"local_probs_{kind}_singlenorm"][:1]
    assert distance(ours, theirs) < PROBABILITIES
    assert torch.allclose(ours.reshape(15, 5).sum(1), torch.tensor(10.0))


def test_words_are_exact_in_a_run_in_bfloat16() -> None:
    features, texts = noise(3, 7680), noise(5, 512, seed=6)
    with torch.autocast("cpu", torch.bfloat16):
        words = features_to_words(features, texts)
    assert torch.equal(words, features_to_words(features, texts))


def test_eighths_and_consistency(words_golden: Golden) -> None:
    words = {kind: words_golden[f"global_probs_{kind}"].flatten(1) for kind in "BN"}
    for kind in "BN":
        theirs = words_golden[f"bns_global_{kind}"]
        assert distance(frames_to_eighths(words[kind]), theirs) < PARITY
    theirs = words_golden["bc300_inferred"]
    assert distance(frames_to_consistency(words["B"]), theirs) < PARITY


def test_head_of_features_that_say_the_same(words_golden: Golden) -> None:
    """From rows of features to all that a golden holds, which has the words of all frames only."""
    words = {kind: words_golden[f"global_probs_{kind}"].flatten(1) for kind in "BN"}
    texts = {kind: words_golden[f"text_feat_{kind}"] for kind in "BN"}
    overall = words_to_features([words["B"], words["N"]], [texts["B"], texts["N"]])
    local = overall[:KEY_FRAMES]
    outputs = light_words.build().head(local, overall, texts["B"], texts["N"])
    n_local, n_all, b_local, b_all = outputs["bns"].split(75, dim=1)
    assert distance(n_local, words["N"][:KEY_FRAMES]) < PROBABILITIES
    assert distance(b_local, words["B"][:KEY_FRAMES]) < PROBABILITIES
    assert distance(n_all, words_golden["bns_global_N"]) < PROBABILITIES
    assert distance(b_all, words_golden["bns_global_B"]) < PROBABILITIES
    # Variances of probabilities that differ by little.
    assert distance(outputs["consistency"], words_golden["bc300_inferred"]) < 10 * PROBABILITIES


def test_consistency_by_its_words() -> None:
    """Loops in float64, at a length that leaves frames over at every step."""
    words = noise(37, 75)
    ours = frames_to_consistency(words).reshape(8, 4, 75)
    frames = words.double().numpy()
    for scale, (step, size) in enumerate([(1, 4), (2, 9), (4, 18), (8, 37)]):
        count = 8 // step
        for eighth in range(8):
            part = eighth // step
            cut = frames[size * part : 37 if part == count - 1 else size * part + size]
            variances = [cut[start::step].var(0, ddof=1) for start in range(step)]
            theirs = torch.from_numpy(np.mean(variances, axis=0))
            assert distance(ours[eighth, scale], theirs) < PARITY


@pytest.mark.parametrize("frames", range(MIN_FRAMES, MIN_VARYING_FRAMES))
def test_series_of_one_frame_do_not_vary(frames: int) -> None:
    consistency = frames_to_consistency(noise(frames, 75)).reshape(8, 4, 75)
    assert consistency.isfinite().all()
    assert (consistency[:7, 0] == 0).all()
    # The last eighth has what is left over; only 8 frames leave none.
    assert bool((consistency[7, 0] == 0).all()) == (frames == MIN_FRAMES)
    assert bool((consistency[:, 3] == 0).all()) == (frames == MIN_FRAMES)


def test_from_16_frames_on_everything_varies() -> None:
    assert (frames_to_consistency(noise(MIN_VARYING_FRAMES, 75)) > 0).all()


@pytest.mark.parametrize("frames", [1, 5, 7, 8, 9])
def test_short_videos_repeat_their_last_frame(frames: int) -> None:
    words = noise(frames, 75)
    longer = padded(words)
    assert len(longer) == max(frames, MIN_FRAMES)
    assert torch.equal(longer[:frames], words)
    assert (longer[frames:] == words[-1]).all()


def test_local_and_overall_are_kept_apart() -> None:
    local, overall = noise(KEY_FRAMES, 7680), noise(5, 7680, seed=6)
    texts = {kind: noise(5, 512, seed=seed) for kind, seed in (("B", 7), ("N", 8))}
    bns = light_words.build().head(local, overall, texts["B"], texts["N"])["bns"]
    parts = [
        features_to_words(local, texts["N"]),
        padded(features_to_words(overall, texts["N"])),
        features_to_words(local, texts["B"]),
        padded(features_to_words(overall, texts["B"])),
    ]
    assert torch.equal(bns, torch.cat(parts, dim=1))


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        (((7, 7680), (9, 7680), (5, 512), (5, 512)), r"local is \[8, 7680\], not \[7, 7680\]"),
        (((8, 7680), (0, 7680), (5, 512), (5, 512)), r"overall is \[1, 7680\], not \[0, 7680\]"),
        (((8, 7680), (9, 512), (5, 512), (5, 512)), r"overall is \[9, 7680\], not \[9, 512\]"),
        (((8, 7680), (9, 7680), (4, 512), (5, 512)), r"brightness_text is \[5, 512\], not \[4,"),
        (((8, 7680), (9, 7680), (5, 512), (5, 511)), r"noise_text is \[5, 512\], not \[5, 511\]"),
    ],
)
def test_other_features_are_refused(shapes: tuple[tuple[int, int], ...], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        light_words.build().head(*(torch.ones(shape) for shape in shapes))


def test_cards() -> None:
    card = network_card("lightvqa-plus")
    assert (dict(card.outputs), dict(card.head)) == ({"spatial": SPATIAL}, {"frame_scores": 1})
    assert dict(network_card("light-words").head) == {"bns": WORDS, "consistency": WORDS}
    with pytest.raises(ValueError, match="no variant 'tiny'"):
        light_words.build("tiny")
