"""SISOM written again from the formulas alone: one sample at a time, float64, no library code.

z_j, g_j   means over positions of the activation of layer j and of d KL(uniform || softmax) / d activation
f          the layers' sigmoid(slope_j * z_j * g_j) - 1/2, side by side
inner      mean of the `count` nearest distances from the `rank`-th on, to bank points of the query's class
outer      the same from the first on, to bank points of other classes; or, for "anchor", the mean over the
           inner neighbors of their own distance to the nearest point of another class
ratio      inner / outer
energy     -log sum exp(logits)
sisome     min(a, 1) E + max(1 - a, 0) R, E and R standardised for "zscore"; a the leave-one-out mean ratio
"""

import copy
import math

import torch


def saliency(model, images, layers):
    """(n, d) of z * g in float64, one image at a time, by plain autograd."""
    net = copy.deepcopy(model).double().eval()
    rows, outputs = [], []
    for image in images.double():
        seen = {}
        handles = [
            net.get_submodule(name).register_forward_hook(
                lambda _m, _i, out, name=name, seen=seen: seen.update({name: out})
            )
            for name in layers
        ]
        logits = net(image[None])[0]
        for handle in handles:
            handle.remove()
        uniform = torch.full_like(logits, 1 / len(logits))
        divergence = (uniform * (uniform / torch.softmax(logits, 0)).log()).sum()
        grads = torch.autograd.grad(divergence, [seen[name] for name in layers])
        parts = [
            (seen[name][0].mean(dim=(1, 2)) * grad[0].mean(dim=(1, 2))).detach()
            for name, grad in zip(layers, grads, strict=True)
        ]
        rows.append(torch.cat(parts))
        outputs.append(logits.detach())
    return torch.stack(rows), torch.stack(outputs)


def enhance(x, dims, slopes):
    parts, start = [], 0
    for name, dim in dims:
        parts.append(torch.sigmoid(slopes[name] * x[:, start : start + dim].double()) - 0.5)
        start += dim
    return torch.cat(parts, dim=1)


def distance(a, b):
    return math.sqrt(sum((u - v) ** 2 for u, v in zip(a, b, strict=True)))


def ratio(query, c, bank, labels, *, outer="sample", rank=1, count=1, hidden=None):
    """(inner, outer, ratio) of one query; None where the class has no other point."""
    visible = [i for i in range(len(bank)) if i != hidden]
    same = sorted((distance(query, bank[i]), i) for i in visible if labels[i] == c)
    others = sorted(distance(query, bank[i]) for i in visible if labels[i] != c)
    if not same:
        return None
    used = same[min(rank, len(same)) - 1 :][:count]
    if outer == "sample":
        far = others[:count]
    else:
        far = [min(distance(bank[i], bank[j]) for j in visible if labels[j] != c) for _, i in used]
    d_in = sum(d for d, _ in used) / len(used)
    d_out = sum(far) / len(far)
    return d_in, d_out, d_in / d_out


def mean_and_deviation(values):
    mean = sum(values) / len(values)
    return mean, math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))


def energy(logits):
    top = max(float(v) for v in logits)
    return -(top + math.log(sum(math.exp(float(v) - top) for v in logits)))


def scores(fit, fit_labels, fit_logits, kept, queries, logits, *, fusion, **variant):
    """[(inner, outer, ratio, energy, sisome)] and (r_avg, r_std, E mean, E std); features already enhanced."""
    fit, queries = fit.tolist(), queries.tolist()  # plain floats: a tensor's elements are slow to walk over
    bank, labels = [fit[i] for i in kept], [int(fit_labels[i]) for i in kept]
    own = []
    for i in range(len(fit)):
        hidden = kept.index(i) if i in kept else None
        found = ratio(fit[i], int(fit_labels[i]), bank, labels, hidden=hidden, **variant)
        if found is not None:
            own.append(found[2])
    r_avg, r_std = mean_and_deviation(own)
    e_mean, e_std = mean_and_deviation([energy(row) for row in fit_logits])
    rows = []
    for query, row in zip(queries, logits, strict=True):
        c = max(range(len(row)), key=lambda k: float(row[k]))
        d_in, d_out, r = ratio(query, c, bank, labels, **variant)
        e = energy(row)
        a, b = (e, r) if fusion == "raw" else ((e - e_mean) / e_std, (r - r_avg) / r_std)
        rows.append((d_in, d_out, r, e, min(r_avg, 1) * a + max(1 - r_avg, 0) * b))
    return rows, (r_avg, r_std, e_mean, e_std)
