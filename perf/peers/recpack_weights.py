"""One batch through RecPack's GRU4Rec classes with given weights, everything kept, in an environment that has RecPack.

usage: recpack_weights.py OUT.npz

OUT holds the weights (`weight:NAME`; drawn wider than RecPack's start, so that the losses differ), the batch (`sequences`:
whole histories, longest first, and `targets`, items 0..n-1, right-padded with n; `negatives`), what came out without dropout in
float64 (`scores`: after the last event of each row, a column an item), the loss of each of its forms (`loss:cross-entropy`,
`loss:bpr`, ...) with all gradients (`gradient:FORM:NAME`), the weights after RecPack's own training of one epoch on this batch,
an update every `bptt` columns, Adagrad, clipped (`after:FORM:NAME`), and which `versions` made it.
"""

import copy
import sys
from importlib.metadata import version

import numpy as np
import torch
from recpack.algorithms.gru4rec import GRU4RecCrossEntropy, GRU4RecNegSampling, GRU4RecTorch

N_ITEMS, HIDDEN, COMPONENTS, LAYERS, ROWS, LONGEST, NEGATIVES, BPTT = 300, 20, 16, 2, 32, 13, 7, 4
torch.set_default_dtype(torch.float64)
torch.manual_seed(3)
network = GRU4RecTorch(N_ITEMS, HIDDEN, COMPONENTS, N_ITEMS, num_layers=LAYERS, dropout=0.0)
with torch.no_grad():
    for parameter in network.parameters():
        parameter.normal_(0.0, 0.3)
generator = np.random.default_rng(4)
lengths = np.sort(generator.integers(2, LONGEST, ROWS))[::-1].copy()
lengths[0] = LONGEST
sequences, targets = (np.full((ROWS, LONGEST), N_ITEMS) for _ in range(2))
for row, length in enumerate(lengths):
    events = generator.integers(0, N_ITEMS, length)
    sequences[row, :length], targets[row, : length - 1] = events, events[1:]
negatives = generator.integers(0, N_ITEMS, (ROWS, LONGEST, NEGATIVES))
batch = inputs, wanted, drawn = tuple(torch.as_tensor(part) for part in (sequences, targets, negatives))


class OneBatch:
    """In the place of RecPack's sampler of batches."""

    def sample(self, _: object) -> list:
        return [(None, *batch)]


kept = {"sequences": sequences, "targets": targets, "negatives": negatives, "layers": LAYERS, "bptt": BPTT}
kept |= {f"weight:{name}": parameter.detach().numpy().copy() for name, parameter in network.named_parameters()}
settings = {"bptt": BPTT, "clipnorm": 1.0, "learning_rate": 0.03}
forms = {"cross-entropy": GRU4RecCrossEntropy(**settings)}
for name in ("bpr", "bpr-max", "top1", "top1-max"):
    forms[name] = GRU4RecNegSampling(loss_fn=name, num_negatives=NEGATIVES, **settings)
for form, algorithm in forms.items():
    network.zero_grad()
    output, _ = network(inputs, network.init_hidden(ROWS))
    loss = algorithm._compute_loss(output, wanted, drawn, wanted != N_ITEMS)
    loss.backward()
    kept[f"loss:{form}"] = loss.item()
    kept |= {f"gradient:{form}:{name}": parameter.grad.numpy().copy() for name, parameter in network.named_parameters()}
    trained = copy.deepcopy(network)
    algorithm.model_, algorithm.device, algorithm.pad_token = trained, torch.device("cpu"), N_ITEMS
    algorithm.optimizer = torch.optim.Adagrad(trained.parameters(), lr=algorithm.learning_rate)
    algorithm.fit_sampler = OneBatch()
    algorithm._train_epoch(None)
    kept |= {f"after:{form}:{name}": parameter.detach().numpy() for name, parameter in trained.named_parameters()}
kept["scores"] = output[torch.arange(ROWS), torch.as_tensor(lengths) - 1, :-1].detach().numpy()
kept["versions"] = f"RecPack {version('recpack')}, torch {torch.__version__}"
np.savez_compressed(sys.argv[1], **kept)
print({name: value for name, value in kept.items() if name.startswith("loss")})
