import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from tfsqueeze import distillation as kd
from tfsqueeze.distillation.reduction import weighted_mean


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def draw(rng, *shape):
    return rng.normal(size=shape).astype("float32")


def compared(loss, student, teacher, *, activations=("linear", "linear"), temperature=1.0, labels=None):
    comparison = kd.Comparison(
        ops.convert_to_tensor(student),
        ops.convert_to_tensor(teacher),
        *activations,
        ops.convert_to_tensor(temperature, "float32"),
        None if labels is None else ops.convert_to_tensor(labels),
    )
    return np.asarray(loss.compare(comparison))


def features(loss, student, teacher):
    return np.asarray(loss.compare(ops.convert_to_tensor(student), ops.convert_to_tensor(teacher)))


def softmax(logits):
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits))


def kl(p, q):
    return (p * np.log(p / q)).sum(-1)


@pytest.mark.parametrize("shape", [(5, 4), (5, 3, 4), (2, 3, 3, 4)])
def test_soft_targets_are_the_divergence_times_temperature_squared(rng, shape):
    student, teacher = draw(rng, *shape), draw(rng, *shape)
    expected = 9 * kl(softmax(teacher / 3), softmax(student / 3))
    np.testing.assert_allclose(
        compared(kd.SoftTargets(), student, teacher, temperature=3.0), expected, rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        compared(kd.SoftTargets(temperature=3.0), student, teacher), expected, rtol=1e-4, atol=1e-5
    )


def test_soft_targets_of_one_value_are_binary(rng):
    student, teacher = draw(rng, 6, 1), draw(rng, 6, 1)
    p, q = sigmoid(teacher[:, 0] / 2), sigmoid(student[:, 0] / 2)
    expected = 4 * (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)))
    np.testing.assert_allclose(
        compared(kd.SoftTargets(), student, teacher, temperature=2.0), expected, rtol=1e-3
    )


@pytest.mark.parametrize(("activation", "function"), [("softmax", softmax), ("sigmoid", sigmoid)])
@pytest.mark.parametrize("side", ["student", "teacher", "both"])
def test_probabilities_and_logits_come_to_the_same(rng, activation, function, side):
    student, teacher = draw(rng, 5, 4), draw(rng, 5, 4)
    loss = kd.SoftTargets(activation=activation)
    as_logits = compared(loss, student, teacher, temperature=2.0)
    mixed = compared(
        loss,
        student if side == "teacher" else function(student),
        teacher if side == "student" else function(teacher),
        activations=(
            "linear" if side == "teacher" else activation,
            "linear" if side == "student" else activation,
        ),
        temperature=2.0,
    )
    np.testing.assert_allclose(mixed, as_logits, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("labels", ["indices", "column", "one-hot"])
def test_decoupled_parts_add_up_to_soft_targets(rng, labels):
    """KL = KL(target) + (1 - p_teacher(target)) KL(others), eq. 5 of the paper."""
    student, teacher, truth = draw(rng, 6, 4), draw(rng, 6, 4), rng.integers(0, 4, 6)
    given = {"indices": truth, "column": truth[:, None], "one-hot": np.eye(4, dtype="float32")[truth]}[labels]
    tiny = 1e-9
    target = compared(kd.DecoupledKD(other_weight=tiny), student, teacher, temperature=2.0, labels=given)
    others = compared(kd.DecoupledKD(target_weight=tiny), student, teacher, temperature=2.0, labels=given) / 8
    whole = compared(kd.SoftTargets(), student, teacher, temperature=2.0)
    other_share = 1 - softmax(teacher / 2)[np.arange(6), truth]
    np.testing.assert_allclose(target + other_share * others, whole, rtol=1e-3, atol=1e-5)


def test_decoupled_needs_labels(rng):
    with pytest.raises(ValueError, match=r"DecoupledKD needs labels .* Use SoftTargets"):
        compared(kd.DecoupledKD(), draw(rng, 4, 3), draw(rng, 4, 3))


def test_logit_regression(rng):
    student, teacher = draw(rng, 5, 4), draw(rng, 5, 4)
    expected = ((student - teacher) ** 2).mean(-1)
    np.testing.assert_allclose(compared(kd.LogitRegression(), student, teacher), expected, rtol=1e-5)
    centred = [x - x.mean(-1, keepdims=True) for x in (student, teacher)]
    from_probabilities = compared(
        kd.LogitRegression(), student, softmax(teacher), activations=("linear", "softmax")
    )
    np.testing.assert_allclose(from_probabilities, ((centred[0] - centred[1]) ** 2).mean(-1), rtol=1e-4)


def test_bounded_regression_stops_where_the_student_is_better():
    labels = np.zeros((2, 1), "float32")
    student, teacher = np.array([[3.0], [1.0]], "float32"), np.array([[2.0], [2.0]], "float32")
    np.testing.assert_allclose(compared(kd.Regression(), student, teacher), [1, 1])
    loss = kd.Regression(margin=0.5)
    np.testing.assert_allclose(compared(loss, student, teacher, labels=labels), [9, 0])
    with pytest.raises(ValueError, match="margin"):
        kd.Regression(margin=-1)
    with pytest.raises(ValueError, match="needs labels"):
        compared(loss, student, teacher)


def test_features_are_compared_per_position_and_resized(rng):
    student, teacher = draw(rng, 2, 4, 4, 3), draw(rng, 2, 4, 4, 3)
    expected = ((student - teacher) ** 2).mean(-1)
    np.testing.assert_allclose(features(kd.Features("a"), student, teacher), expected, rtol=1e-4, atol=1e-5)
    larger = draw(rng, 2, 9, 7, 3)
    smaller = tf.image.resize(larger, (4, 4), antialias=True).numpy()
    resized = ((student - smaller) ** 2).mean(-1)
    np.testing.assert_allclose(features(kd.Features("a"), student, larger), resized, rtol=1e-3, atol=1e-4)
    assert features(kd.Features("a"), student[:, 0], teacher[:, 0, ::2]).shape == (2, 4)
    both = [x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (student, teacher)]
    normal = features(kd.Features("a", normalize=True), student, teacher)
    np.testing.assert_allclose(normal, ((both[0] - both[1]) ** 2).mean(-1), rtol=1e-4, atol=1e-6)


def test_features_adapt_channels_only_where_they_differ():
    loss = kd.Features("a")
    assert loss.adapter((None, 4, 4, 3), (None, 8, 8, 3)) is None
    assert isinstance(loss.adapter((None, 4, 4, 3), (None, 8, 8, 5)), keras.layers.Conv2D)
    assert isinstance(loss.adapter((None, 4, 3), (None, 4, 5)), keras.layers.Dense)
    with pytest.raises(ValueError, match=r"same number of axes.*\(None, 4\).*\(None, 4, 4, 5\)"):
        loss.adapter((None, 4), (None, 4, 4, 5))


def test_attention_transfer(rng):
    student, teacher = draw(rng, 2, 3, 3, 4), draw(rng, 2, 3, 3, 7)
    maps = [(x**2).sum(-1).reshape(2, -1) for x in (student, teacher)]
    maps = [m / np.linalg.norm(m, axis=-1, keepdims=True) for m in maps]
    expected = ((maps[0] - maps[1]) ** 2).sum(-1)
    np.testing.assert_allclose(
        features(kd.AttentionTransfer("a"), student, teacher), expected, rtol=1e-4, atol=1e-5
    )
    assert features(kd.AttentionTransfer("a"), student, draw(rng, 2, 6, 6, 2)).shape == (2,)
    with pytest.raises(ValueError, match="positions and channels"):
        kd.AttentionTransfer("a").adapter((None, 4), (None, 4))


def test_relations_are_those_of_the_paper(rng):
    student, teacher = draw(rng, 4, 3), draw(rng, 4, 2, 3)

    def distances(x):
        x = x.reshape(len(x), -1)
        d = np.linalg.norm(x[:, None] - x[None], axis=-1)
        return d / d[d > 0].mean()

    def angle(x, i, j, k):
        a, b = (x[j] - x[i]).ravel(), (x[k] - x[i]).ravel()
        norm = np.linalg.norm(a) * np.linalg.norm(b)
        return a @ b / norm if norm else 0.0

    def huber(d):
        return np.where(np.abs(d) <= 1, d**2 / 2, np.abs(d) - 0.5)

    expected = huber(distances(student) - distances(teacher)).mean(-1)
    np.testing.assert_allclose(features(kd.RelationalDistance(), student, teacher), expected, rtol=1e-3)
    expected = [
        np.mean(
            [huber(angle(student, i, j, k) - angle(teacher, i, j, k)) for j in range(4) for k in range(4)]
        )
        for i in range(4)
    ]
    np.testing.assert_allclose(features(kd.RelationalAngle(), student, teacher), expected, rtol=1e-3)


def test_similarities(rng):
    student, teacher = draw(rng, 4, 3), draw(rng, 4, 2, 3)

    def rows(x):
        g = x.reshape(4, -1) @ x.reshape(4, -1).T
        return g / np.linalg.norm(g, axis=1, keepdims=True)

    values = features(kd.SimilarityPreserving(), student, teacher)
    np.testing.assert_allclose(values.mean(), ((rows(student) - rows(teacher)) ** 2).sum() / 16, rtol=1e-4)


RELATIONAL = [kd.RelationalDistance(), kd.RelationalAngle(), kd.SimilarityPreserving()]


@pytest.mark.parametrize("loss", RELATIONAL, ids=lambda loss: loss.name)
def test_relations_have_finite_gradients_on_equal_and_single_examples(loss):
    for count in (1, 3):
        student = tf.Variable(np.ones((count, 2), "float32"))
        with tf.GradientTape() as tape:
            value = ops.mean(loss.compare(student + 0.0, ops.zeros((count, 5))))
        assert np.isfinite(value.numpy())
        assert np.isfinite(tape.gradient(value, student).numpy()).all()


LOSSES = [
    kd.SoftTargets("a", temperature=2.0, activation="sigmoid"),
    kd.LogitRegression("b"),
    kd.Regression(margin=0.5),
    kd.DecoupledKD(target_weight=2.0, other_weight=3.0),
    kd.Features("a", "b", normalize=True),
    kd.AttentionTransfer("a", "b", power=4.0),
    kd.RelationalDistance("a"),
    kd.RelationalAngle(),
    kd.SimilarityPreserving("a", "b"),
]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_losses_are_the_same_after_serialization(loss):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert again == loss
    assert repr(again) == repr(loss)


def test_weighted_mean_is_that_of_keras(rng):
    student, teacher, weights = draw(rng, 6, 3), draw(rng, 6, 3), rng.uniform(size=6).astype("float32")
    mean = keras.losses.MeanSquaredError()(teacher, student, weights)
    values = ops.mean(ops.square(student - teacher), axis=-1)
    np.testing.assert_allclose(weighted_mean(values, weights), mean, rtol=1e-6)


def test_only_what_the_mask_shows_counts():
    values = ops.convert_to_tensor([[1.0, 5.0], [2.0, 9.0]])
    mask = ops.convert_to_tensor([[True, False], [True, False]])
    assert float(weighted_mean(values, None, mask)) == 1.5
    assert float(weighted_mean(values, ops.convert_to_tensor([2.0, 0.0]), mask)) == 1.0
    assert float(weighted_mean(values[:, 0], ops.convert_to_tensor([[2.0, 0.0], [0.0, 0.0]]), mask)) == 0.5
    assert float(weighted_mean(values, None, ops.zeros((2, 2), "bool"))) == 0.0


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match=r"`temperature` must be a number > 0. Received: temperature=0"):
        kd.SoftTargets(temperature=0)
    with pytest.raises(ValueError, match="activation"):
        kd.SoftTargets(activation="tanh")
    with pytest.raises(ValueError, match="power"):
        kd.AttentionTransfer("a", power=0)


def test_contrast_is_the_cross_entropy_of_cosines(rng):
    student, teacher = draw(rng, 6, 4), draw(rng, 6, 4)
    s, t = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (student, teacher))
    cosines = s @ t.T / 0.5
    rows, columns = softmax(cosines), softmax(cosines.T)
    expected = -0.5 * (np.log(rows.diagonal()) + np.log(columns.diagonal()))
    loss = kd.Contrastive(temperature=0.5)
    np.testing.assert_allclose(features(loss, student, teacher), expected, rtol=1e-4)
    maps = np.repeat(np.repeat(student[:, None, None], 3, 1), 2, 2)
    np.testing.assert_allclose(features(loss, maps, teacher), expected, rtol=1e-4)
    assert (
        features(kd.Contrastive(), teacher, teacher).max()
        < features(kd.Contrastive(), student, teacher).min()
    )
    assert loss.adapter((None, 7), (None, 4)).units == 4
    assert kd.Contrastive.from_config(loss.get_config()) == loss
    with pytest.raises(ValueError, match=r"`temperature` must be a number > 0"):
        kd.Contrastive(temperature=0)
