"""Figures of images: each array in a row of its own, on its own scale."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from cnnjax.analysis.pictures import PICTURES
from cnnjax.study.image_figures import WORDS, confusion, draw_images, similarity

RNG = np.random.default_rng(0)


def images_of(figure: Figure) -> list[np.ndarray]:
    return [np.asarray(image.get_array()) for axes in figure.axes for image in axes.images]


def test_every_picture_has_its_words() -> None:
    assert set(WORDS) == {*PICTURES, "receptive_field"}


@pytest.mark.parametrize("shape", [(5, 4), (5, 3), (5, 1), (1, 1), (5, 4, 1), (5, 4, 3)])
def test_images_of_each_row_are_on_their_own_scale(shape: tuple[int, ...]) -> None:
    arrays = {"saliency/image": RNG.normal(size=(3, *shape)), "saliency/saliency": 100 * RNG.normal(size=(3, *shape))}
    (picture,) = draw_images("learned", arrays, 2)
    assert picture.title == "Saliency: learned" and picture.name == "saliency_learned"
    shown = images_of(picture.figure)
    assert len(shown) == 6
    for found, image in zip(shown, [*arrays["saliency/image"], *arrays["saliency/saliency"]], strict=True):
        expected = (image - image.min()) / (np.ptp(image) or 1)
        np.testing.assert_allclose(found, expected[..., 0] if shape[2:] == (1,) else expected, atol=1e-6)
    labels = [axes.get_ylabel() for axes in picture.figure.axes]
    assert [label for label in labels if label] == ["image", "saliency"]


@pytest.mark.parametrize("shape", [(9,), (9, 1)])
def test_signals_are_curves(shape: tuple[int, ...]) -> None:
    signals = RNG.normal(size=(2, *shape))
    (picture,) = draw_images("a", {"saliency/image": signals}, 1)
    curves = [line.get_ydata() for axes in picture.figure.axes for line in axes.lines]
    np.testing.assert_allclose(curves, signals.reshape(2, 9), rtol=1e-6)


def test_an_even_image_and_an_arm_with_odd_characters_are_drawn() -> None:
    (picture,) = draw_images("a$<b>/c", {"occlusion/image": np.full((1, 4, 4, 1), 7.0)}, 2)
    np.testing.assert_array_equal(images_of(picture.figure)[0], 0)


@pytest.mark.parametrize("depth", [(), (5,)], ids=["2-D", "3-D"])
def test_the_strongest_patches_stand_in_a_square_for_each_unit(depth: tuple[int, ...]) -> None:
    patches = RNG.normal(size=(3, 5, *depth, 4, 6, 1))
    (picture,) = draw_images("a", {"strongest/stage1": patches}, 2 + len(depth))
    shown = images_of(picture.figure)
    assert [image.shape for image in shown] == [(2 * 4 + 1, 2 * 6 + 1)] * 3
    low, high = patches[2, :4].min(), patches.max()
    for place, (row, column) in enumerate(np.ndindex(2, 2)):
        flat = patches[2, place, 2, ..., 0] if depth else patches[2, place, ..., 0]
        found = shown[2][5 * row : 5 * row + 4, 7 * column : 7 * column + 6]
        if not depth:
            np.testing.assert_allclose(found, (flat - low) / (high - low), atol=1e-6)
        assert np.corrcoef(found.ravel(), flat.ravel())[0, 1] > 0.999
    signals = RNG.normal(size=(2, 3, 9, 1))
    (picture,) = draw_images("a", {"strongest/stage1": signals}, 1)
    curves = [line.get_ydata() for line in picture.figure.axes[1].lines]
    np.testing.assert_allclose(curves, signals[1, ..., 0], rtol=1e-6)


@pytest.mark.parametrize("name", ["saliency", "deconvolution", "activation_maximisation"])
def test_maps_say_their_range(name: str) -> None:
    maps = np.linspace(-1, 2.5, 12).reshape(1, 3, 4)
    (picture,) = draw_images("a", {f"{name}/image": maps, f"{name}/stage1": maps}, 2)
    assert [axes.get_title() for axes in picture.figure.axes] == ["", "-1 to 2.5"]
    assert "as written" in picture.sentence


def test_fooling_images_say_how_sure_the_network_is() -> None:
    fooling = {"fooling/gradient": np.ones((2, 3, 3, 1)), "fooling/gradient confidence": np.array([0.5, 0.999])}
    (picture,) = draw_images("a", fooling, 2)
    assert [axes.get_title() for axes in picture.figure.axes] == ["50%", "100%"]


def test_receptive_fields_are_pictures_with_their_stage() -> None:
    maps = {f"receptive_field/stage{number}": RNG.uniform(size=(5, 5)) for number in (1, 2)}
    (picture,) = draw_images("a", maps, 2)
    assert [axes.get_title().partition("\n")[0] for axes in picture.figure.axes] == ["stage1", "stage2"]
    written = [axes.get_title().partition("\n")[2] for axes in picture.figure.axes]
    assert written == [f"{values.min():.2g} to {values.max():.2g}" for values in maps.values()]
    assert images_of(picture.figure)[1].max() == 1


def test_of_volumes_the_middle_slice_is_shown() -> None:
    volumes = RNG.normal(size=(1, 5, 4, 3, 1))
    (picture,) = draw_images("a", {"saliency/image": volumes}, 3)
    middle = volumes[0, 2, ..., 0]
    np.testing.assert_allclose(images_of(picture.figure)[0], (middle - middle.min()) / np.ptp(middle), atol=1e-6)


def test_similarity_shows_its_values_by_stage() -> None:
    matrix = np.array([[1, 0.25], [0.25, 1]])
    axes = similarity("a", matrix, ["input", "head"]).figure.axes[0]
    np.testing.assert_array_equal(axes.images[0].get_array(), matrix)
    assert [text.get_text() for text in axes.texts] == ["1.00", "0.25", "0.25", "1.00"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["input", "head"]


def test_confusion_shows_counts_and_the_shares_of_rows() -> None:
    picture = confusion("a", np.array([[3, 1], [0, 0]]))
    (axes,) = picture.figure.axes
    np.testing.assert_allclose(axes.images[0].get_array(), [[0.75, 0.25], [0, 0]])
    assert [text.get_text() for text in axes.texts] == ["3", "1", "0", "0"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("class predicted", "true class")


@pytest.mark.parametrize("classes", [21, 1000])
def test_of_many_classes_the_map_alone_is_shown(classes: int) -> None:
    figure = confusion("a", np.eye(classes, dtype=int)).figure
    (axes,) = figure.axes
    assert not axes.texts
    assert axes.images[0].get_array().shape == (classes, classes)
    assert max(figure.get_size_inches()) < 12
    for ticks in (axes.get_xticks(), axes.get_yticks()):
        assert 2 < len(ticks) <= 13 and (ticks == ticks.round()).all()


def test_every_one_of_few_classes_has_its_tick() -> None:
    (axes,) = confusion("a", np.eye(3, dtype=int)).figure.axes
    assert axes.get_xticks().tolist() == axes.get_yticks().tolist() == [0, 1, 2]
