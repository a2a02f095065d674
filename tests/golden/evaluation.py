"""Makes probe.safetensors, agreement.safetensors, retrieval.safetensors and mcnemar.safetensors by scikit-learn and scipy.

    python tests/golden/evaluation.py        # with scikit-learn, scipy and safetensors
"""

import pathlib

import numpy
from safetensors.numpy import save_file
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score, average_precision_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix
from sklearn.preprocessing import StandardScaler

HERE = pathlib.Path(__file__).parent
PENALTIES = [1.0, 0.1, 0.01, 0.001]


def save(name, tensors):
    as_stored = {key: value.astype(numpy.int32 if value.dtype.kind in "iub" else numpy.float32) for key, value in tensors.items()}
    save_file({key: numpy.ascontiguousarray(value) for key, value in as_stored.items()}, HERE / f"{name}.safetensors")


def probe():
    """Overlapping clouds in 60 correlated features of different scales, one of them constant, as half precision holds them."""
    rng = numpy.random.default_rng(0)
    num_classes, width = 5, 60
    centers, mixing = rng.normal(size=(num_classes, 12)), rng.normal(size=(12, width))

    def draw(n):
        labels = numpy.arange(n) % num_classes
        latent = centers[labels] + 1.5 * rng.normal(size=(n, 12))
        x = (latent @ mixing + rng.normal(size=(n, width))) * numpy.geomspace(0.05, 20, width) + 3
        x[:, 7] = 1.5
        return x.astype(numpy.float16).astype(numpy.float64), labels

    (x, y), (x_test, y_test) = draw(500), draw(1000)
    scaler = StandardScaler().fit(x)
    out = {"train": x, "labels": y, "test": x_test, "test_labels": y_test, "penalties": numpy.array(PENALTIES)}
    losses, top1 = [], []
    for penalty in PENALTIES:
        model = LogisticRegression(C=1 / (penalty * len(x)), tol=1e-12, max_iter=100_000).fit(scaler.transform(x), y)
        log_p = model.predict_log_proba(scaler.transform(x))
        losses.append(-log_p[numpy.arange(len(x)), y].mean() + 0.5 * penalty * (model.coef_**2).sum())
        top1.append(model.score(scaler.transform(x_test), y_test))
    save("probe", out | {"losses": numpy.array(losses), "top1": numpy.array(top1)})
    print("losses", losses, "top-1", top1)


def agreement():
    rng = numpy.random.default_rng(1)
    classes = numpy.repeat(numpy.arange(6), 40)
    noisy = numpy.where(rng.random(240) < 0.3, rng.integers(0, 9, 240), (classes * 7 + 3) % 11)
    cases = {
        "renamed": (5 - classes, classes),
        "noisy": (noisy, classes),
        "chance": (rng.integers(0, 8, 240), classes),
        "one": (numpy.zeros(240, int), classes),
        "alone": (numpy.arange(240), classes),
        "both_one": (numpy.zeros(240, int), numpy.full(240, 4)),
    }
    out = {}
    for name, (clusters, of) in cases.items():
        table = contingency_matrix(of, clusters)
        figures = [normalized_mutual_info_score(of, clusters), adjusted_rand_score(of, clusters), table.max(axis=0).sum() / table.sum()]
        out |= {f"{name}.clusters": clusters, f"{name}.classes": of, f"{name}.figures": numpy.array(figures, float)}
        print(name, figures)
    save("agreement", out)


def retrieval():
    """Small integers, whose products are exact and often equal."""
    rng = numpy.random.default_rng(2)
    bank, queries = rng.integers(-2, 3, (150, 8)), rng.integers(-2, 3, (40, 8))
    labels, query_labels = rng.integers(0, 7, 150), rng.integers(0, 8, 40)
    out = {"bank": bank.astype(float), "queries": queries.astype(float), "labels": labels, "query_labels": query_labels}

    def ranked(prefix, queries, query_labels, is_own):
        precisions, first = [], []
        for i, (query, label) in enumerate(zip(queries, query_labels)):
            rows = numpy.delete(numpy.arange(len(bank)), i) if is_own else numpy.arange(len(bank))
            scores, relevant = bank[rows] @ query, labels[rows] == label
            if relevant.any():
                precisions.append(average_precision_score(relevant, scores))
                first.append(int(numpy.argmax(relevant[numpy.lexsort((rows, -scores))])))
        first = numpy.array(first)
        figures = [numpy.mean(precisions)] + [(first < k).mean() for k in (1, 5, 10)]
        out[f"{prefix}.precisions"], out[f"{prefix}.figures"] = numpy.array(precisions), numpy.array(figures)
        print(prefix, len(first), figures)

    ranked("queries", queries, query_labels, False)
    ranked("others", bank, labels, True)
    save("retrieval", out)


def mcnemar():
    pairs = [(0, 0), (1, 0), (3, 9), (12, 4), (40, 41), (500, 600), (2000, 1800)]
    p = [binomtest(a, a + b).pvalue if a + b else 1.0 for a, b in pairs]
    save("mcnemar", {"pairs": numpy.array(pairs), "p_values": numpy.array(p)})
    print(p)


probe()
agreement()
retrieval()
mcnemar()
