"""Huffman codes, by which Deep Compression counts."""

import heapq

import numpy as np


def huffman_bits(counts: np.ndarray) -> int:
    """Bits that a sequence takes in a Huffman code for its own symbols.

    Args:
        counts: how often each symbol occurs; zeros are left out. A single symbol takes one bit each time.

    Example:
        >>> huffman_bits(np.array([5, 2, 1]))
        11

    Source: Huffman, A method for the construction of minimum-redundancy codes, 1952.
    """
    heap = [int(count) for count in counts if count]
    if len(heap) == 1:
        return heap[0]
    heapq.heapify(heap)
    bits = 0
    while len(heap) > 1:
        merged = heapq.heappop(heap) + heapq.heappop(heap)
        bits += merged
        heapq.heappush(heap, merged)
    return bits


def sparse_bits(codes: np.ndarray, zero: int, index_bits: int) -> int:
    """Bits of codes as Deep Compression stores them: those that are not zero, and the gaps between them.

    Both are Huffman-coded. A gap too long for its bits is filled up with zeros that are stored.

    Args:
        codes: in order, one-dimensional.
        zero: the code of zero.
        index_bits: bits of a gap: 5 for dense, 8 for convolutional layers in the paper.

    Source: Han et al., Deep Compression, arXiv:1510.00149, section 2 and figure 2.
    """
    places = np.flatnonzero(codes != zero)
    gaps = np.diff(places, prepend=-1) - 1
    longest = 1 << index_bits
    fillers = int((gaps // longest).sum())
    stored = np.bincount(codes[places], minlength=zero + 1)
    stored[zero] = fillers
    distances = np.bincount(gaps % longest, minlength=longest)
    distances[longest - 1] += fillers
    return huffman_bits(stored) + huffman_bits(distances)
