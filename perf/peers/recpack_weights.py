"""One chunk through RecPack's GRU4Rec classes with given weights, everything kept, in an environment that has RecPack.

usage: recpack_weights.py OUT.npz

OUT holds the weights (`weight:NAME`; drawn wider than RecPack's start, so that the losses differ), the chunk (`sequences` and
`targets`, items 0..n-1, right-padded with n; `negatives`), what came out without dropout in float64 (`scores`: of the last
event of each row, a column an item) and the loss of each of its forms (`loss:cross-entropy`, `loss:bpr`, ...), each with the
gradient of the output layer (`gradient:FORM`).
"""

import sys

import numpy as np
import torch
from recpack.algorithms.gru4rec import GRU4RecCrossEntropy, GRU4RecNegSampling, GRU4RecTorch

N_ITEMS, HIDDEN, COMPONENTS, LAYERS, ROWS, LONGEST, NEGATIVES = 300, 20, 16, 2, 32, 12, 7
torch.manual_seed(3)
network = GRU4RecTorch(N_ITEMS, HIDDEN, COMPONENTS, N_ITEMS, num_layers=LAYERS, dropout=0.0).double().eval()
with torch.no_grad():
    for parameter in network.parameters():
        parameter.normal_(0.0, 0.3)
generator = np.random.default_rng(4)
lengths = np.sort(generator.integers(2, LONGEST + 2, ROWS))[::-1]
sequences, targets = (np.full((ROWS, LONGEST), N_ITEMS) for _ in range(2))
for row, length in enumerate(lengths):
    events = generator.integers(0, N_ITEMS, length)
    sequences[row, : length - 1], targets[row, : length - 1] = events[:-1], events[1:]
negatives = generator.integers(0, N_ITEMS, (ROWS, LONGEST, NEGATIVES))
inputs, wanted, drawn = (torch.as_tensor(part.copy()) for part in (sequences, targets, negatives))
mask = wanted != N_ITEMS
kept = {"sequences": sequences, "targets": targets, "negatives": negatives, "layers": LAYERS}
kept |= {f"weight:{name}": parameter.detach().numpy() for name, parameter in network.named_parameters()}
forms = {"cross-entropy": GRU4RecCrossEntropy()}
forms |= {name: GRU4RecNegSampling(loss_fn=name, num_negatives=NEGATIVES) for name in ("bpr", "bpr-max", "top1", "top1-max")}
for name, algorithm in forms.items():
    network.zero_grad()
    output, _ = network(inputs, network.init_hidden(ROWS).double())
    loss = algorithm._compute_loss(output, wanted, drawn, mask)
    loss.backward()
    kept[f"loss:{name}"] = loss.item()
    kept[f"gradient:{name}"] = [p for _, p in network.named_parameters()][-2].grad.numpy().copy()
last = torch.as_tensor(lengths.copy()) - 2
kept["scores"] = output[torch.arange(ROWS), last, :-1].detach().numpy()
np.savez_compressed(sys.argv[1], **kept)
print({name: value for name, value in kept.items() if name.startswith("loss")}, [n for n, _ in network.named_parameters()])
