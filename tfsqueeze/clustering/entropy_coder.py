"""An entropy coder for code sequences: range asymmetric numeral systems, many lanes at a time.

The size comes within a fraction of a percent of the Shannon limit, whatever the probabilities. All of it
is integer arithmetic, so that a file means the same on every machine.

Source: Duda, arXiv:1311.2540; Giesen, Interleaved entropy coders, arXiv:1402.3392.
"""

import numpy as np

_SCALE_BITS = 16
_SCALE = 1 << _SCALE_BITS
_LOWEST = np.uint64(1 << 31)
_WORD = np.uint64(32)
_BYTES_PER_LANE = 1500
# A lane costs four bytes; few lanes cost time.
_SYMBOLS_PER_LANE = 100_000
_MOST_LANES = 4096
MAX_SYMBOLS = 1 << 14


def frequency_table(counts: np.ndarray) -> np.ndarray:
    """Counts as one byte per symbol: a 4-bit exponent and the 4 leading bits behind its first.

    Args:
        counts: how often each symbol occurs, > 0, most often first.
    """
    scaled = np.maximum(counts * (2.0**19 / counts.max()), 16)
    exponent = np.floor(np.log2(scaled)).astype(np.int64) - 4
    mantissa = np.rint(scaled / 2.0**exponent).astype(np.int64)
    exponent, mantissa = (
        np.where(mantissa == 32, exponent + 1, exponent),
        np.where(mantissa == 32, 16, mantissa),
    )
    table = np.minimum(exponent * 16 + mantissa - 16, 255)
    return table.astype(np.uint8)


def frequencies(table: np.ndarray) -> np.ndarray:
    """The frequencies a table stands for: integers >= 1 that sum to 65,536."""
    table = table.astype(np.int64)
    weights = (16 + (table & 15)) << (table >> 4)
    found = np.maximum(weights * _SCALE // weights.sum(), 1)
    excess = int(found.sum()) - _SCALE
    if excess > 0:
        # Rare symbols were lifted to 1: the common ones pay, the commonest first.
        for place in np.argsort(-found, kind="stable"):
            paid = min(excess, int(found[place]) - 1)
            found[place] -= paid
            excess -= paid
            if not excess:
                break
    else:
        found[np.argmax(found)] -= excess
    return found


def encode(sequences: list[np.ndarray], tables: list[np.ndarray]) -> bytes:
    """Encodes sequences of symbols.

    Args:
        sequences: one-dimensional arrays of symbols >= 0.
        tables: for each, the `frequency_table` of its symbols.
    """
    sizes = [_bits(sequence, frequencies(table)) for sequence, table in zip(sequences, tables, strict=True)]
    lanes = max(sum(sizes) / 8 // _BYTES_PER_LANE, sum(map(len, sequences)) // _SYMBOLS_PER_LANE)
    lanes = int(np.clip(lanes, 1, _MOST_LANES))
    states, blocks = np.full(lanes, _LOWEST), []
    for sequence, table in zip(reversed(sequences), reversed(tables), strict=True):
        frequency = frequencies(table).astype(np.uint64)
        start = np.concatenate([[0], np.cumsum(frequency)[:-1]]).astype(np.uint64)
        for end in range(-(-sequence.size // lanes), 0, -1):
            symbols = sequence[(end - 1) * lanes : end * lanes]
            _push(states, frequency[symbols], start[symbols], blocks)
    words = np.concatenate([*reversed(blocks), np.zeros(0, np.uint32)]).astype("<u4")
    return lanes.to_bytes(2, "little") + states.astype("<u8").tobytes() + words.tobytes()


def decode(content: bytes, sizes: list[int], tables: list[np.ndarray]) -> list[np.ndarray]:
    """Undoes `encode`.

    Args:
        content: what it returned.
        sizes: lengths of the sequences.
        tables: as they were given to it.

    Returns:
        The sequences as uint16.

    Raises:
        ValueError: if the content ends too early or goes on too long.
    """
    lanes = int.from_bytes(content[:2], "little")
    if not lanes or len(content) < 2 + 8 * lanes or (len(content) - 2 - 8 * lanes) % 4:
        raise ValueError("The codes are cut off.")
    states = np.frombuffer(content, "<u8", lanes, 2).astype(np.uint64)
    words = np.frombuffer(content, "<u4", offset=2 + 8 * lanes).astype(np.uint64)
    place, sequences = 0, []
    for size, table in zip(sizes, tables, strict=True):
        frequency = frequencies(table)
        symbol_at = np.repeat(np.arange(frequency.size, dtype=np.uint16), frequency)
        start = (np.cumsum(frequency) - frequency).astype(np.uint64)
        frequency = frequency.astype(np.uint64)
        sequence = np.empty(size, np.uint16)
        for begin in range(0, size, lanes):
            symbols = sequence[begin : begin + lanes]
            place += _pull(states[: symbols.size], symbols, symbol_at, frequency, start, words[place:])
        sequences.append(sequence)
    if place != words.size or (states != _LOWEST).any():
        raise ValueError("The codes do not end where they should.")
    return sequences


def _push(states, frequency, start, blocks) -> None:
    active = states[: frequency.size]
    full = active >= frequency << np.uint64(63 - _SCALE_BITS)
    if full.any():
        blocks.append(active[full].astype(np.uint32))
        active[full] >>= _WORD
    quotient, rest = np.divmod(active, frequency)
    active[:] = (quotient << np.uint64(_SCALE_BITS)) + rest + start


def _pull(states, symbols, symbol_at, frequency, start, words) -> int:
    slot = states & np.uint64(_SCALE - 1)
    symbols[:] = symbol_at[slot]
    states[:] = frequency[symbols] * (states >> np.uint64(_SCALE_BITS)) + slot - start[symbols]
    empty = np.flatnonzero(states < _LOWEST)
    if empty.size > words.size:
        raise ValueError("The codes are cut off.")
    states[empty] = (states[empty] << _WORD) | words[: empty.size]
    return empty.size


def _bits(sequence, frequency) -> float:
    return float((np.bincount(sequence, minlength=frequency.size) * -np.log2(frequency / _SCALE)).sum())
