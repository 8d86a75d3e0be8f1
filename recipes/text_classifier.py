"""A text classifier with a small transformer: low-rank layers, taught by the whole, in integers.

Embeddings and dense layers of a transformer are wide and of low rank: each becomes two thin ones, fitted
to what it gave. LayerNormalization stays in float inside the integer file, which the export lists.

\b
Data: AG News in --data (`agnews/ag_news_test.csv.gz`: class, title, text); without, the docstrings of
five packages of Python itself, to be told apart.

\b
Examples:
  python recipes/text_classifier.py -o news
  tfsqueeze run recipes/text_classifier.yaml --model news/model.keras --train news/train.npz \\
      --validation news/validation.npz -o again
"""

import ast
import csv
import gzip
import importlib.util
from pathlib import Path

import click
import keras
import numpy as np
import workbench
from keras import layers

PACKAGES = ("asyncio", "email", "logging", "unittest", "xml")
WORDS, LENGTH, WIDTH = 2000, 32, 48


@click.command(help=__doc__)
@workbench.options("text-classifier")
def main(data, output, epochs, limit):
    source = workbench.real(data, "agnews", "ag_news_test.csv.gz")
    texts, labels = docstrings() if source is None else news(source)
    training, validation = workbench.split(np.array(texts), np.array(labels), limit)
    words = layers.TextVectorization(WORDS, output_sequence_length=LENGTH)
    words.adapt(training[0])
    (output / "vocabulary.txt").write_text("\n".join(words.get_vocabulary()), encoding="utf-8")
    training, validation = ((np.asarray(words(x)).astype("int32"), y) for x, y in (training, validation))
    classes = int(training[1].max()) + 1
    model = workbench.begin(output, lambda: network(classes), training, validation, epochs=epochs or 12)
    return workbench.run_steps(__file__, model, training, validation, output, epochs)


def news(path):
    """Titles and texts of AG News, with classes 0 to 3, in random order."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [row for row in csv.reader(file) if row[0].isdigit()]
    return shuffled([f"{row[1]} {row[2]}" for row in rows], [int(row[0]) - 1 for row in rows])


def docstrings():
    """Docstrings of functions and classes of Python's own packages, without the packages' names."""
    texts, labels = [], []
    for label, package in enumerate(PACKAGES):
        folder = Path(importlib.util.find_spec(package).origin).parent
        for path in sorted(folder.rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8", errors="replace"))):
                documented = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
                text = documented and ast.get_docstring(node)
                if text and len(text.split()) >= 5:
                    texts.append(f"{node.name.replace('_', ' ')} {text.lower().replace(package, '')}")
                    labels.append(label)
    return shuffled(texts, labels)


def shuffled(texts, labels):
    """Both in one random order."""
    order = np.random.default_rng(0).permutation(len(texts))
    return [texts[i] for i in order], [labels[i] for i in order]


def network(classes: int) -> keras.Model:
    """One transformer block between embeddings and a pooled classifier."""
    tokens = keras.Input((LENGTH,), dtype="int32", name="tokens")
    x = layers.Embedding(WORDS, WIDTH, name="words")(tokens)
    y = layers.MultiHeadAttention(2, WIDTH // 2, name="attention")(x, x)
    x = layers.LayerNormalization(name="norm1")(layers.Add()([x, y]))
    y = layers.Dense(2 * WIDTH, activation="relu", name="widen")(x)
    y = layers.Dense(WIDTH, name="narrow")(y)
    x = layers.LayerNormalization(name="norm2")(layers.Add()([x, y]))
    x = layers.Dropout(0.3)(layers.GlobalAveragePooling1D()(x))
    model = keras.Model(tokens, layers.Dense(classes, activation="softmax", name="topic")(x))
    model.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


if __name__ == "__main__":
    main()
