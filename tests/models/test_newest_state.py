"""States after the newest event."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchbed.models.newest_state import newest_states


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("layers", [1, 3])
def test_they_are_those_of_the_library(layers: int, bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchbed.models.newest_state.BLOCK_ROWS", 4)
    torch.manual_seed(0)
    gru = nn.GRU(5, 6, layers, bias=bias, batch_first=True).double().eval()
    vectors = torch.randn(9, 5, dtype=torch.float64)
    lengths = torch.tensor([3, 0, 7, 1, 7, 2, 0, 5, 4, 6])
    index = torch.randint(9, (len(lengths), 7))
    slow = newest_states(gru, vectors, index, lengths)
    with torch.no_grad():
        fast = newest_states(gru, vectors, index, lengths)
    torch.testing.assert_close(fast, slow.detach())
    for row, length in enumerate(lengths.tolist()):
        expected = gru(vectors[index[row, :length]][None])[0][0, -1] if length else torch.zeros(6, dtype=torch.float64)
        torch.testing.assert_close(fast[row], expected.detach())


def test_rows_do_not_depend_on_their_neighbours_nor_on_what_lies_beyond_their_end() -> None:
    torch.manual_seed(0)
    gru = nn.GRU(3, 4, batch_first=True).eval()
    vectors, lengths = torch.randn(9, 3), torch.tensor([2, 5, 4])
    index = torch.randint(9, (3, 5))
    other = index.clone()
    other[0, 2:], other[2, 4:] = 8, 8
    with torch.no_grad():
        whole = newest_states(gru, vectors, index, lengths)
        torch.testing.assert_close(newest_states(gru, vectors, other, lengths), whole)
        order = torch.tensor([2, 0, 1])
        torch.testing.assert_close(newest_states(gru, vectors, index[order], lengths[order]), whole[order])


def test_nothing_at_all() -> None:
    gru = nn.GRU(3, 4, batch_first=True).eval()
    with torch.no_grad():
        empty = torch.zeros((2, 1), dtype=torch.int64)
        assert not newest_states(gru, torch.randn(1, 3), empty, torch.zeros(2, dtype=torch.int64)).any()
        assert newest_states(gru, torch.randn(1, 3), empty[:0], torch.zeros(0, dtype=torch.int64)).shape == (0, 4)
