"""Codebooks of sub-vectors: k-means in several dimensions, and the errors that count at a layer's outputs."""

import numpy as np

ITERATIONS = 25
_SAMPLE = 2**16
_BLOCK = 2**15


def codebook_of(vectors: np.ndarray, size: int, seed: int) -> np.ndarray:
    """A codebook with a locally least squared error.

    Args:
        vectors: shape (n, length); more than 65,536 are sampled.
        size: entries, < n.
        seed: of the start and the sample.

    Returns:
        float32 array (size, length).
    """
    rng = np.random.default_rng(seed)
    if len(vectors) > _SAMPLE:
        vectors = vectors[rng.choice(len(vectors), _SAMPLE, replace=False)]
    book = _far_apart(vectors, size, rng)
    before = None
    for _ in range(ITERATIONS):
        codes = nearest(vectors, book)
        if before is not None and np.array_equal(codes, before):
            break
        before = codes
        book = means(vectors, codes, book)
    return book


def nearest(vectors: np.ndarray, book: np.ndarray) -> np.ndarray:
    """Index of the nearest entry for each vector."""
    squares = np.square(book).sum(1)
    blocks = range(0, len(vectors), _BLOCK)
    return np.concatenate([(squares - 2 * vectors[i : i + _BLOCK] @ book.T).argmin(1) for i in blocks])


def means(vectors: np.ndarray, codes: np.ndarray, book: np.ndarray) -> np.ndarray:
    """The mean of the vectors of each code; entries without vectors stay."""
    counts = np.bincount(codes, minlength=len(book))
    sums = np.stack([np.bincount(codes, column, len(book)) for column in vectors.T], 1)
    return np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], book).astype("float32")


def _far_apart(vectors, size, rng) -> np.ndarray:
    """k-means++ (Arthur & Vassilvitskii, 2007)."""
    chosen = [vectors[rng.integers(len(vectors))]]
    distance = np.square(vectors - chosen[0]).sum(1, dtype="float64")
    for _ in range(size - 1):
        reached = np.cumsum(distance)
        place = np.searchsorted(reached, rng.random() * reached[-1]).clip(0, len(vectors) - 1)
        chosen.append(vectors[place])
        np.minimum(distance, np.square(vectors - vectors[place]).sum(1), out=distance)
    return np.stack(chosen).astype("float32")


class OutputError:
    """The squared error of a layer's outputs as a function of the error of its kernel.

    Args:
        products: mean products of every two inputs, (inputs, inputs).
        weights: the kernel to stay close to, (inputs, outputs).
    """

    def __init__(self, products: np.ndarray, weights: np.ndarray):
        ridge = 1e-4 * max(float(np.trace(products)) / len(products), 1e-12)
        self.products = products.astype("float64") + ridge * np.eye(len(products))
        self.weights = weights.astype("float64")

    def of(self, kernel: np.ndarray) -> float:
        """The error of a kernel relative to that of zeros."""
        return self._form(self.weights - kernel) / max(self._form(self.weights), 1e-30)

    def _form(self, difference) -> float:
        return float((difference * (self.products @ difference)).sum())

    def refine(self, codes: np.ndarray, books: np.ndarray, sweeps: int = 4) -> tuple[np.ndarray, np.ndarray]:
        """Lowers the error by turns: codes segment by segment, then the codebooks.

        What the segments before and after leave over is made good by each, as far as its codebook can: the
        error correction of Wu et al., arXiv:1512.06473, 3.3.

        Args:
            codes: (segments, outputs).
            books: (segments, size, length), or (1, size, length) for one codebook.
            sweeps: how many times over all segments.

        Returns:
            New codes and codebooks; never worse than the given ones.
        """
        best = self.of(decode(codes, books))
        for _ in range(sweeps):
            new_codes = self._choose(codes.copy(), books)
            new_books = self._move(new_codes, books)
            error = self.of(decode(new_codes, new_books))
            if error >= best * (1 - 1e-4):
                break
            codes, books, best = new_codes, new_books, error
        return codes, books

    def _choose(self, codes, books) -> np.ndarray:
        length = books.shape[2]
        kernel = decode(codes, books).astype("float64")
        for segment in range(len(codes)):
            rows = slice(segment * length, (segment + 1) * length)
            book = books[segment % len(books)].astype("float64")
            metric = self.products[rows, rows]
            pull = self.products[rows] @ (self.weights - kernel)
            target = kernel[rows] + np.linalg.solve(metric, pull)
            sides = np.einsum("ki,ij,kj->k", book, metric, book)
            codes[segment] = (sides[:, None] - 2 * book @ (metric @ target)).argmin(0)
            kernel[rows] = book[codes[segment]].T
        return codes

    def _move(self, codes, books) -> np.ndarray:
        """One step of the codebooks along what each entry's users lack, as long as is best."""
        count, size, length = books.shape
        segments = len(codes)
        lack = self.products @ (self.weights - decode(codes, books))
        blocks = self.products.reshape(segments, length, segments, length)
        metrics = blocks[np.arange(segments), :, np.arange(segments)]
        steps = np.zeros(books.shape)
        uses = np.stack([np.bincount(row, minlength=size) for row in codes])
        pulls = np.stack(
            [_sums(part.T, row, size) for part, row in zip(_parts(lack, length), codes, strict=True)]
        )
        for book in range(count):
            own = slice(None) if count == 1 else slice(book, book + 1)
            metric = np.einsum("sk,sij->kij", uses[own], metrics[own])
            used = uses[own].sum(0) > 0
            steps[book, used] = np.linalg.solve(metric[used], pulls[own].sum(0)[used][..., None])[..., 0]
        change = decode(codes, steps)
        bend = self._form(change)
        far = float((change * lack).sum()) / bend if bend > 0 else 0.0
        return (books + far * steps).astype("float32")


def decode(codes: np.ndarray, books: np.ndarray) -> np.ndarray:
    """The kernel (inputs, outputs) that codes (segments, outputs) into codebooks stand for."""
    owner = np.arange(len(codes)) % len(books)
    parts = books[owner[:, None], codes]
    return parts.transpose(0, 2, 1).reshape(-1, codes.shape[1])


def _parts(matrix, length) -> np.ndarray:
    return matrix.reshape(-1, length, matrix.shape[1])


def _sums(vectors, codes, size) -> np.ndarray:
    return np.stack([np.bincount(codes, column, size) for column in vectors.T], 1)
