"""Reading arrays and image folders as a model's inputs."""

import numpy as np
import pytest
from PIL import Image

from tfsqueeze.core.data import InputSpec
from tfsqueeze.core.data_files import read_examples
from tfsqueeze.core.scaling import parse_scale

ONE = [InputSpec("image", (None, 4, 4, 1), "float32")]
TWO = [InputSpec("left", (None, 3), "float32"), InputSpec("right", (None, 2), "int32")]
X = np.arange(6 * 16, dtype="uint8").reshape(6, 4, 4, 1)
Y = np.arange(6)


def save(tmp_path, **arrays):
    np.savez(tmp_path / "data.npz", **arrays)
    return tmp_path / "data.npz"


@pytest.mark.parametrize(
    ("x_key", "y_key"),
    [("x", "y"), ("image", "y"), ("x_test", "y_test"), ("x_train", "y_train"), ("images", "labels")],
)
def test_npz_by_every_usual_key(tmp_path, x_key, y_key):
    examples = read_examples(save(tmp_path, **{x_key: X, y_key: Y, "extra": np.zeros(3)}), ONE)
    np.testing.assert_array_equal(examples.inputs["image"], X)
    assert examples.inputs["image"].dtype == np.float32
    np.testing.assert_array_equal(examples.targets, Y)


def test_an_array_alone_is_the_input_whatever_its_key(tmp_path):
    examples = read_examples(save(tmp_path, pixels=X), ONE)
    assert len(examples) == 6 and examples.targets is None


def test_npy_and_missing_channel_axis(tmp_path):
    np.save(tmp_path / "x.npy", X[..., 0])
    np.testing.assert_array_equal(read_examples(tmp_path / "x.npy", ONE).inputs["image"], X)


def test_several_inputs_and_outputs_by_name(tmp_path):
    left, right = np.ones((5, 3)), np.ones((5, 2), int)
    path = save(tmp_path, left=left, right=right, kind=np.arange(5), size=np.ones((5, 1)))
    examples = read_examples(path, TWO, outputs=["kind", "size"], scale=parse_scale("1/2"))
    assert set(examples.targets) == {"kind", "size"}
    assert examples.inputs["left"][0, 0] == 0.5 and examples.inputs["right"][0, 0] == 1


def test_limit_draws_at_random_and_keeps_pairs(tmp_path):
    path = save(tmp_path, x=X, y=Y)
    drawn = read_examples(path, ONE, limit=3, seed=1)
    assert len(drawn) == 3 and len(set(drawn.targets)) == 3
    np.testing.assert_array_equal(drawn.inputs["image"], X[drawn.targets])
    np.testing.assert_array_equal(read_examples(path, ONE, limit=3, seed=1).targets, drawn.targets)
    seen = {tuple(read_examples(path, ONE, limit=3, seed=seed).targets) for seed in range(8)}
    assert len(seen) > 1


def test_errors_say_what_is_expected(tmp_path):
    with pytest.raises(ValueError, match=r"does not exist.*\.npz file with keys x"):
        read_examples(tmp_path / "gone.csv", ONE)
    with pytest.raises(ValueError, match=r"does not exist"):
        read_examples(tmp_path / "gone.npz", ONE)
    (tmp_path / "table.csv").write_text("1,2")
    with pytest.raises(ValueError, match=r"another ending.*folder of images"):
        read_examples(tmp_path / "table.csv", ONE)
    with pytest.raises(ValueError, match=r"keys \['a', 'b'\], but the model's inputs are \['image'\]"):
        read_examples(save(tmp_path, a=X, b=Y), ONE)
    with pytest.raises(ValueError, match=r"keys \['x'\], but the model's inputs are \['left', 'right'\]"):
        read_examples(save(tmp_path, x=X), TWO)
    with pytest.raises(ValueError, match=r"no targets to score against"):
        read_examples(save(tmp_path, x=X), ONE, with_targets=True)
    with pytest.raises(ValueError, match=r"must have shape \(n, 4, 4, 1\).*\(6, 16\)"):
        read_examples(save(tmp_path, x=X.reshape(6, 16)), ONE)
    with pytest.raises(ValueError, match=r"empty"):
        read_examples(save(tmp_path, x=X[:0]), ONE)
    with pytest.raises(ValueError, match=r"plain numeric arrays"):
        read_examples(save(tmp_path, x=np.array([{}], dtype=object)), ONE)
    path = save(tmp_path, x=X)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"Cannot read"):
        read_examples(path, ONE)
    np.save(tmp_path / "x.npy", X)
    with pytest.raises(ValueError, match=r"holds one array, but the model has the inputs"):
        read_examples(tmp_path / "x.npy", TWO)


@pytest.fixture
def folder(tmp_path):
    """Two classes of images of different sizes and kinds, with files that are no images beside them."""
    root = tmp_path / "photos"
    for label, (name, colour) in enumerate({"cat": (255, 0, 0), "dog": (0, 0, 255)}.items()):
        (root / name).mkdir(parents=True)
        for index, ending in enumerate((".png", ".jpg", ".bmp")):
            image = Image.new("RGB", (10 + index, 8 + label), colour)
            image.save(root / name / f"{index}{ending}")
    (root / "cat" / "notes.txt").write_text("no image")
    return root


def spec_of(*shape):
    return [InputSpec("image", (None, *shape), "float32")]


def test_image_folder_is_resized_and_labelled_by_sub_folder(folder):
    examples = read_examples(folder, spec_of(6, 5, 3), scale=parse_scale("1/255"), with_targets=True)
    images = examples.inputs["image"]
    assert images.shape == (6, 6, 5, 3)
    np.testing.assert_array_equal(examples.targets, [0, 0, 0, 1, 1, 1])
    np.testing.assert_allclose(images[0, 0, 0], [1, 0, 0])
    np.testing.assert_allclose(images[5, 0, 0], [0, 0, 1])


def test_image_folder_in_grey_with_alpha_and_with_channels_first(folder):
    assert read_examples(folder, spec_of(6, 5, 1)).inputs["image"].shape == (6, 6, 5, 1)
    assert read_examples(folder, spec_of(6, 5, 4)).inputs["image"][0, 0, 0, 3] == 255
    first = read_examples(folder, spec_of(3, 6, 5)).inputs["image"]
    assert first.shape == (6, 3, 6, 5) and first[0, 0].min() == 255


def test_image_folder_without_classes_has_no_targets(folder):
    examples = read_examples(folder / "cat", spec_of(6, 5, 3), limit=2)
    assert len(examples) == 2 and examples.targets is None


def test_image_folder_errors(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"Found no images"):
        read_examples(tmp_path / "empty", spec_of(6, 5, 3))
    with pytest.raises(ValueError, match=r"one input of shape \(n, height, width, channels\)"):
        read_examples(folder, TWO)
    with pytest.raises(ValueError, match=r"differ in size"):
        read_examples(folder, spec_of(None, None, 3))
    (folder / "cat" / "broken.png").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match=r"Cannot read the image.*broken\.png"):
        read_examples(folder, spec_of(6, 5, 3))
