// Lloyd's algorithm beside the products: the running best centroid, the sums of members, the distances.

// |c|² / 2, one thread a centroid.
extern "C" __global__ void half_squares(const float* centroids, float* out, int k, int dim) {
    int c = thread_index();
    if (c >= k) return;
    float sum = 0;
    for (int d = 0; d < dim; d++) sum += centroids[(i64)c * dim + d] * centroids[(i64)c * dim + d];
    out[c] = 0.5f * sum;
}

// Takes a block of products (points, width) with centroids from `first` on into the best so far: a block of 128 threads a
// point. The lowest of equal centroids wins.
extern "C" __global__ void best_centroid(const float* products, const float* half, float* best, u32* labels, int width, int first) {
    __shared__ float scores[128];
    __shared__ u32 at[128];
    const float* row = products + (i64)blockIdx.x * width;
    float score = -INFINITY_F;
    u32 label = 0xffffffffu;
    for (int c = threadIdx.x; c < width; c += blockDim.x) {
        float s = row[c] - half[first + c];
        if (s > score) {
            score = s;
            label = first + c;
        }
    }
    scores[threadIdx.x] = score;
    at[threadIdx.x] = label;
    __syncthreads();
    for (u32 halfway = blockDim.x / 2; halfway > 0; halfway /= 2) {
        if (threadIdx.x < halfway) {
            u32 other = threadIdx.x + halfway;
            bool wins = scores[other] > scores[threadIdx.x] || (scores[other] == scores[threadIdx.x] && at[other] < at[threadIdx.x]);
            if (wins) {
                scores[threadIdx.x] = scores[other];
                at[threadIdx.x] = at[other];
            }
        }
        __syncthreads();
    }
    if (threadIdx.x == 0 && (first == 0 || scores[0] > best[blockIdx.x])) {
        best[blockIdx.x] = scores[0];
        labels[blockIdx.x] = at[0] == 0xffffffffu ? 0 : at[0];
    }
}

extern "C" __global__ void count_changes(const u32* before, const u32* now, u32* count, i64 n) {
    u32 changed = 0;
    for (i64 i = thread_index(); i < n; i += num_threads()) changed += before[i] != now[i];
    if (changed) atomicAdd(count, changed);
}

extern "C" __global__ void count_members(const u32* labels, u32* counts, i64 n) {
    for (i64 i = thread_index(); i < n; i += num_threads()) atomicAdd(&counts[labels[i]], 1u);
}

// Sums in f64: their order leaves no trace after rounding to f32.
extern "C" __global__ void sum_members(const float* points, const u32* labels, double* sums, int dim, i64 n) {
    for (i64 i = thread_index(); i < n; i += num_threads()) atomicAdd(&sums[(i64)labels[i / dim] * dim + i % dim], (double)points[i]);
}

// A cluster without members stays where it was.
extern "C" __global__ void move_centroids(const double* sums, const u32* counts, float* centroids, int dim, i64 n) {
    for (i64 i = thread_index(); i < n; i += num_threads())
        if (counts[i / dim]) centroids[i] = (float)(sums[i] / counts[i / dim]);
}

// The squared distance of each point to its centroid, one thread a point.
extern "C" __global__ void member_distances(const float* points, const u32* labels, const float* centroids, float* out, int dim, i64 n) {
    for (i64 i = thread_index(); i < n; i += num_threads()) {
        const float* point = points + i * dim;
        const float* centroid = centroids + (i64)labels[i] * dim;
        float sum = 0;
        for (int d = 0; d < dim; d++) sum += (point[d] - centroid[d]) * (point[d] - centroid[d]);
        out[i] = sum;
    }
}
