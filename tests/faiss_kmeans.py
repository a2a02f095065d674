"""Inertia and time of faiss k-means on rows that tests/kmeans.rs draws too; writes tests/faiss_kmeans.tsv.

  python3 -m venv v && v/bin/pip install numpy faiss-cpu
  v/bin/python tests/faiss_kmeans.py

The rows are those of `support::clouds::unit_rows`: la-core's SplitMix64 and Box-Muller, written out in numpy.
"""
import os, sys, time
import faiss, numpy as np

N, DIM, NUM_GROUPS, ITERS, SEED, SUBSET_STREAM = 60_000, 128, 500, 20, 1, 7
GAMMA = np.uint64(0x9E3779B97F4A7C15)


def mix(z):
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def start(stream, key):
    state = mix(np.uint64(stream) ^ np.uint64(0x6C6F63616C5F6167))
    for word in key:
        state = mix(state ^ mix(np.uint64(word) + GAMMA))
    return state


def normals(state, first, count):
    """Normal draws `first` to `first + count` of a generator; each takes two words."""
    words = mix(state + GAMMA * np.arange(2 * first + 1, 2 * (first + count) + 1, dtype=np.uint64))
    u = ((words[0::2] >> np.uint64(11)) + np.uint64(1)).astype(np.float64) / 2.0**53
    v = (words[1::2] >> np.uint64(40)).astype(np.float64) / 2.0**24
    return (np.sqrt(-2 * np.log(u)) * np.cos(2 * np.pi * v)).astype(np.float32)


def unit_rows(spread):
    state = start(SUBSET_STREAM, [SEED])
    centers = normals(state, 0, NUM_GROUPS * DIM).reshape(NUM_GROUPS, DIM)
    noise = normals(state, NUM_GROUPS * DIM, N * DIM).reshape(N, DIM)
    rows = centers[np.arange(N) % NUM_GROUPS] + np.float32(spread) * noise
    return rows / np.sqrt((rows * rows).sum(1, keepdims=True))


def kmeans(rows, k, seed):
    """As the peer in PyTorch clusters: no subsampling, 20 iterations, then every row to its nearest centroid."""
    clustering = faiss.Clustering(DIM, k)
    clustering.niter, clustering.max_points_per_centroid, clustering.min_points_per_centroid, clustering.seed = ITERS, 10**7, 1, seed
    index = faiss.IndexFlatL2(DIM)
    clustering.train(rows, index)
    labels = index.search(rows, 1)[1][:, 0]
    centroids = faiss.vector_to_array(clustering.centroids).reshape(k, DIM)
    return ((rows.astype(np.float64) - centroids[labels]) ** 2).sum()


def main():
    faiss.omp_set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    out = open(os.path.join(os.path.dirname(__file__), "faiss_kmeans.tsv"), "w")
    print("spread", "checksum", "k", "seed", "inertia", "seconds", sep="\t", file=out)
    for spread in (1.0, 2.0):
        rows = unit_rows(spread)
        checksum = rows[:, 0].astype(np.float64).sum()
        for k in (300, 1000):
            for seed in (1234, 1235, 1236):
                begin = time.time()
                inertia = kmeans(rows, k, seed)
                line = (spread, f"{checksum:.4f}", k, seed, f"{inertia:.3f}", f"{time.time() - begin:.2f}")
                print(*line, sep="\t", file=out)
                print(*line, sep="\t", file=sys.stderr)


with np.errstate(over="ignore"):
    main()
