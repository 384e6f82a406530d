"""Runs a library for PyTorch in its own environment: for every line read, one timed estimate.

    python peer_torch.py devinterp==2.0.1 CASE.npz '{"num_chains": 4, ...}'

Knows nothing of this library. The case holds `inputs`, `targets` and the layers `kernel0`, `bias0`,
`kernel1`, ...; each line on standard input is answered by `{"wall": s, "cpu": s, "llc": ...}`.
"""

import contextlib
import gc
import io
import itertools
import json
import sys
import time
import warnings

import numpy as np
import torch


def network(case, rectified):
    """The layers of the case, with rectified units between them or none."""
    layers = []
    for number in range(sum(name.startswith("kernel") for name in case)):
        kernel, bias = case[f"kernel{number}"], case.get(f"bias{number}")
        layer = torch.nn.Linear(*kernel.shape, bias=bias is not None)
        layer.weight.data = torch.tensor(kernel.T.copy())
        if bias is not None:
            layer.bias.data = torch.tensor(bias)
        layers += [torch.nn.ReLU()] * (rectified and number > 0) + [layer]
    return torch.nn.Sequential(*layers)


def losses(outputs, targets, squared):
    """Loss of each example."""
    if squared:
        return ((outputs - targets) ** 2).mean(dim=1)
    return torch.nn.functional.cross_entropy(outputs, targets, reduction="none")


def version_two(model, inputs, targets, *, options):
    """`llc()`: its data are token sequences, so each holds the number of an example and a zero.

    A list of ready tensors: a data set of the `datasets` package takes many times as long to read.
    """
    from devinterp.slt.llc import llc

    rows = [{"input_ids": torch.tensor([i, 0])} for i in range(len(inputs))]

    def loss_fn(model, input_ids):
        index = input_ids[:, 0]
        return losses(model(inputs[index]), targets[index], options["squared"])[:, None]

    def run():
        found = llc(
            model,
            rows,
            {},
            lr=options["step_size"],
            n_beta=options["nbeta"],
            localization=options["localization"],
            num_chains=options["num_chains"],
            num_draws=options["num_steps"],
            batch_size=options["batch_size"],
            loss_fn=loss_fn,
        )
        return float(found.llc_mean)

    return run


def version_one(model, inputs, targets, *, options):
    """`sample()` with the estimator of the LLC as its callback."""
    from devinterp.optim.sgld import SGLD
    from devinterp.slt.llc import LLCEstimator
    from devinterp.slt.sampler import sample

    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(inputs, targets),
        batch_size=options["batch_size"],
        shuffle=True,
    )

    def evaluate(model, data):
        return losses(model(data[0]), data[1], options["squared"]).mean()

    def run():
        chains, draws = options["num_chains"], options["num_steps"]
        estimator = LLCEstimator(chains, draws, init_loss=None, nbeta=options["nbeta"])
        sample(
            model,
            loader,
            [estimator],
            evaluate=evaluate,
            sampling_method=SGLD,
            optimizer_kwargs={
                "lr": options["step_size"],
                "nbeta": options["nbeta"],
                "localization": options["localization"],
            },
            num_chains=chains,
            num_draws=draws,
            verbose=False,
        )
        return float(estimator.get_results()["llc/mean"])

    return run


def canonical(model, inputs, targets, *, options):
    """`estimate_llc()` without `torch.compile`, which takes half a minute in every call."""
    # The library asks for Python 3.10 and for a function of Python 3.12.
    if not hasattr(itertools, "batched"):
        itertools.batched = batched
    torch._dynamo.config.disable = True
    from canonical_interp.slt import LLCEstimator

    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(inputs, targets),
        batch_size=options["batch_size"],
        shuffle=True,
    )

    def criterion(outputs, targets):
        return losses(outputs, targets, options["squared"]).mean()

    def run():
        estimator = LLCEstimator(
            draws=options["num_steps"],
            chains=options["num_chains"],
            burnin_steps=0,
            steps_bw_draws=1,
            learning_rate=options["step_size"],
            localization=options["localization"],
            nbeta=options["nbeta"],
        )
        return float(
            estimator.estimate_llc(model, loader, criterion, compile=False, show_progress=False)
        )

    return run


def batched(items, size):
    """`itertools.batched` of Python 3.12."""
    items = iter(items)
    while batch := tuple(itertools.islice(items, size)):
        yield batch


PEERS = {
    "devinterp==1": version_one,
    "devinterp==2": version_two,
    "canonical-interp": canonical,
}


def main():
    """Answers each line with the times of one estimate."""
    warnings.simplefilter("ignore")
    peer, path, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    torch.set_num_threads(options["num_threads"])
    with np.load(path) as stored:
        case = dict(stored)
    model = network(case, not options["squared"])
    inputs, targets = torch.tensor(case["inputs"]), torch.tensor(case["targets"])
    prepare = next(prepare for name, prepare in PEERS.items() if peer.startswith(name))
    run = prepare(model, inputs, targets, options=options)
    # The peer collects garbage for each chain, which else walks through all imported libraries.
    gc.freeze()
    for _ in sys.stdin:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            wall, cpu = time.perf_counter(), time.process_time()
            value = run()
            seconds = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        print(json.dumps(seconds | {"llc": value}), flush=True)


if __name__ == "__main__":
    main()
