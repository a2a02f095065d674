"""k-means and exact nearest neighbours by faiss (kNN by PyTorch too, the faster of the two): what `la-cli bench kmeans|knn` measures.

Ends with one line of JSON.
"""
import argparse
import json
import resource
import statistics
import time

import faiss
import numpy as np


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["kmeans", "knn"])
    parser.add_argument("--points")
    parser.add_argument("--rows")
    parser.add_argument("--queries")
    parser.add_argument("--num-clusters", type=int, default=1000)
    parser.add_argument("--iters", type=int, default=20)
    parser.add_argument("--k", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    faiss.omp_set_num_threads(args.threads)
    found = kmeans(args) if args.kind == "kmeans" else knn(args)
    print(json.dumps({**found, "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def kmeans(args):
    """All points, as the paper's code asks of faiss, and their final labels."""
    points = np.load(args.points)
    clustering = faiss.Clustering(points.shape[1], args.num_clusters)
    clustering.niter, clustering.seed = args.iters, 1234
    clustering.max_points_per_centroid, clustering.min_points_per_centroid = 10**7, 1
    index = faiss.IndexFlatL2(points.shape[1])
    started = time.perf_counter()
    clustering.train(points, index)
    distances, _ = index.search(points, 1)
    seconds = time.perf_counter() - started
    return {"peer": "faiss " + faiss.__version__, "median_s": seconds, "inertia": float(distances.astype(np.float64).sum()), "iters": args.iters}


def knn(args):
    rows, queries = np.load(args.rows), np.load(args.queries)
    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(rows)
    by_faiss = median_seconds(lambda: index.search(queries, args.k), args.rounds)
    by_torch, version = knn_by_torch(rows, queries, args)
    seconds, peer = min((by_faiss, "faiss " + faiss.__version__), (by_torch, "PyTorch " + version))
    return {"peer": peer, "median_s": seconds, "faiss_s": by_faiss, "torch_s": by_torch, "queries_per_s": len(queries) / seconds}


def knn_by_torch(rows, queries, args):
    import torch

    torch.set_num_threads(args.threads)
    rows, queries = torch.from_numpy(rows), torch.from_numpy(queries)

    @torch.inference_mode()
    def search():
        for part in queries.split(512):
            (part @ rows.T).topk(args.k, dim=1)

    return median_seconds(search, args.rounds), torch.__version__


def median_seconds(work, rounds):
    work()
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
