"""Distances with the least stress that scikit-learn's metric MDS finds for them on a plane: mds_*.safetensors.

    pip install numpy safetensors scikit-learn
    python tests/golden/mds.py
"""

from pathlib import Path

import numpy as np
import sklearn
from safetensors.numpy import save_file
from sklearn.manifold import MDS

HERE = Path(__file__).parent


def distances(rows):
    return np.sqrt(((rows[:, None] - rows[None]) ** 2).sum(-1))


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def cases():
    random = np.random.default_rng(0)
    # As figure 4 has it: unit embeddings of a few classes.
    centers = random.normal(size=(5, 32))
    yield "classes", distances(unit(np.repeat(centers, 12, axis=0) + 0.6 * random.normal(size=(60, 32))))
    # No structure that a plane could hold.
    yield "scattered", distances(unit(random.normal(size=(50, 16))))
    # Of no space at all.
    noisy = distances(random.uniform(size=(40, 2))) * random.uniform(0.5, 1.5, size=(40, 40))
    yield "noisy", np.triu(noisy, 1) + np.triu(noisy, 1).T


for name, given in cases():
    given = np.triu(given, 1) + np.triu(given, 1).T  # symmetric to the last bit
    found = MDS(n_components=2, metric_mds=True, metric="precomputed", n_init=16, init="random", max_iter=1000, eps=1e-9,
                random_state=0, normalized_stress=False).fit(given)
    tensors = {"distances": given, "stress": np.array([found.stress_])}
    save_file(tensors, HERE / f"mds_{name}.safetensors", metadata={"scikit-learn": sklearn.__version__})
    print(name, found.stress_)
