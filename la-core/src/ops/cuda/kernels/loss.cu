// The objectives from scores or chosen rows: losses of each image, and the weights of bank rows in its gradient.

#define NCE_EPSILON 1e-7
#define SHARE_EPSILON 1e-7

__device__ inline bool is_close(const u32* labels, i64 n, int clusterings, int agreement, u32 own, u32 other) {
    int shared = 0;
    for (int h = 0; h < clusterings; h++) shared += labels[h * n + own] == labels[h * n + other];
    return shared >= agreement;
}

// Local aggregation, a block of 256 threads an image: -ln(close / total + 1e-7), with `similarities` (B, K) turned into the
// weights of the background rows in the gradient. `empty` is 1 where nothing is close.
extern "C" __global__ void la_weights(const u32* background, float* similarities, const u32* indices, const u32* labels, float* losses,
                                      float* empty, i64 n, int k, int clusterings, int agreement, int batch, float temperature) {
    __shared__ float room[256];
    __shared__ double sums[256];
    background += (i64)blockIdx.x * k;
    similarities += (i64)blockIdx.x * k;
    u32 own = indices[blockIdx.x];
    float largest = -INFINITY_F;
    for (int j = threadIdx.x; j < k; j += blockDim.x)
        if (similarities[j] > largest) largest = similarities[j];
    largest = block_max(largest, room);
    double total = 0, close = 0;
    float found = 0;
    // The sign remembers what is close.
    for (int j = threadIdx.x; j < k; j += blockDim.x) {
        float w = expf((similarities[j] - largest) / temperature);
        total += w;
        bool shares = is_close(labels, n, clusterings, agreement, own, background[j]);
        if (shares) {
            close += w;
            found = 1;
        }
        similarities[j] = shares ? -w : w;
    }
    total = block_sum(total, sums);
    close = block_sum(close, sums);
    found = block_sum(found, room);
    double share = close / total;
    double slope = -1.0 / ((share + SHARE_EPSILON) * temperature * total * batch);
    for (int j = threadIdx.x; j < k; j += blockDim.x) {
        double w = similarities[j];
        similarities[j] = (float)(w < 0 ? slope * -w * (1.0 - share) : -slope * w * share);
    }
    if (threadIdx.x == 0) {
        losses[blockIdx.x] = (float)-log(share + SHARE_EPSILON);
        empty[blockIdx.x] = found > 0 ? 0.0f : 1.0f;
    }
}

// Agreement of two views, a block of 256 threads an embedding of n: -ln(exp(s_pair / τ) / Σ_{j ≠ i} exp(s_j / τ) + 1e-7), with the
// similarities (n, n) turned into its slopes by them.
extern "C" __global__ void agreement_weights(float* similarities, float* losses, int n, float temperature) {
    __shared__ float room[256];
    __shared__ double sums[256];
    float* row = similarities + (i64)blockIdx.x * n;
    int own = blockIdx.x, pair = (own + n / 2) % n;
    float largest = -INFINITY_F;
    for (int j = threadIdx.x; j < n; j += blockDim.x)
        if (j != own && row[j] > largest) largest = row[j];
    largest = block_max(largest, room);
    double total = 0;
    for (int j = threadIdx.x; j < n; j += blockDim.x)
        if (j != own) total += expf((row[j] - largest) / temperature);
    total = block_sum(total, sums);
    double share = expf((row[pair] - largest) / temperature) / total;
    double slope = -1.0 / ((share + SHARE_EPSILON) * temperature * total * n);
    // Every thread has read the pair's before one writes over it.
    __syncthreads();
    for (int j = threadIdx.x; j < n; j += blockDim.x) {
        double w = expf((row[j] - largest) / temperature);
        row[j] = j == own ? 0.0f : (float)(j == pair ? slope * w * (1.0 - share) : -slope * w * share);
    }
    if (threadIdx.x == 0) losses[blockIdx.x] = (float)-log(share + SHARE_EPSILON);
}

// grad[b] = Σ_j weights[b][j] · rows[chosen[b][j]], and own_weights[b] · rows[own[b]] where there are such. Blocks of 32 × 8.
extern "C" __global__ void weighted_rows(const float* weights, const u32* chosen, const float* own_weights, const u32* own,
                                         const float* rows, float* grad, int k, int dim) {
    __shared__ float room[8][128];
    weights += (i64)blockIdx.x * k;
    chosen += (i64)blockIdx.x * k;
    for (int first = 0; first < dim; first += 128) {
        float sums[4] = {0, 0, 0, 0};
        for (int j = threadIdx.y; j < k; j += 8) {
            float w = weights[j];
            const float* row = rows + (i64)chosen[j] * dim;
            for (int q = 0; q < 4; q++) {
                int d = first + q * 32 + threadIdx.x;
                if (d < dim) sums[q] += w * row[d];
            }
        }
        for (int q = 0; q < 4; q++) room[threadIdx.y][q * 32 + threadIdx.x] = sums[q];
        __syncthreads();
        int at = threadIdx.y * 32 + threadIdx.x;
        if (at < 128 && first + at < dim) {
            float sum = 0;
            for (int y = 0; y < 8; y++) sum += room[y][at];
            if (own_weights) sum += own_weights[blockIdx.x] * rows[(i64)own[blockIdx.x] * dim + first + at];
            grad[(i64)blockIdx.x * dim + first + at] = sum;
        }
        __syncthreads();
    }
}

__device__ inline float dot_product(const float* a, const float* b, int dim) {
    float sum = 0;
    for (int d = 0; d < dim; d++) sum += a[d] * b[d];
    return sum;
}

// Noise-contrastive estimation, a block of 256 threads an image.
extern "C" __global__ void nce_weights(const float* queries, const float* rows, const u32* own, const u32* noise, float* weights,
                                       float* own_weights, float* losses, int num_noise, int dim, int batch, double temperature,
                                       double log_odds, double epsilon_cost) {
    __shared__ double sums[256];
    const float* query = queries + (i64)blockIdx.x * dim;
    noise += (i64)blockIdx.x * num_noise;
    weights += (i64)blockIdx.x * num_noise;
    double weight = 1.0 / (batch * temperature), loss = 0;
    for (int j = threadIdx.x; j < num_noise; j += blockDim.x) {
        double odds = exp(dot_product(query, rows + (i64)noise[j] * dim, dim) / temperature - log_odds);
        loss += log1p(odds) + epsilon_cost;
        // Odds of 0 and of infinity both come out right this way.
        weights[j] = (float)(weight / (1.0 + 1.0 / odds));
    }
    loss = block_sum(loss, sums);
    if (threadIdx.x == 0) {
        double odds = exp(dot_product(query, rows + (i64)own[blockIdx.x] * dim, dim) / temperature - log_odds);
        own_weights[blockIdx.x] = (float)(-weight / (1.0 + odds));
        losses[blockIdx.x] = (float)(loss + log1p(1.0 / odds));
    }
}

// Scores (rows, N) become exp(scale · score - largest), a block of 512 threads a row.
extern "C" __global__ void softmax_rows(float* scores, float* largest_of, float* sum_of, i64 n, float scale) {
    __shared__ float room[512];
    __shared__ double sums[512];
    float* row = scores + (i64)blockIdx.x * n;
    float largest = -INFINITY_F;
    for (i64 i = threadIdx.x; i < n; i += blockDim.x)
        if (row[i] * scale > largest) largest = row[i] * scale;
    largest = block_max(largest, room);
    double sum = 0;
    for (i64 i = threadIdx.x; i < n; i += blockDim.x) {
        float w = expf(row[i] * scale - largest);
        row[i] = w;
        sum += w;
    }
    sum = block_sum(sum, sums);
    if (threadIdx.x == 0) {
        largest_of[blockIdx.x] = largest;
        sum_of[blockIdx.x] = (float)sum;
    }
}

// From Σ_j exp(score_j - largest) V_j in `grad` (B, D) to the gradient, and the losses; a block of 128 threads an image.
extern "C" __global__ void softmax_finish(const float* queries, const float* rows, const u32* own, const float* largest, const float* sums,
                                          float* grad, float* losses, int dim, int batch, float temperature) {
    __shared__ double room[128];
    const float* row = rows + (i64)own[blockIdx.x] * dim;
    i64 first = (i64)blockIdx.x * dim;
    double dot = 0, weight = 1.0 / ((double)temperature * batch);
    for (int d = threadIdx.x; d < dim; d += blockDim.x) dot += (double)queries[first + d] * row[d];
    dot = block_sum(dot, room);
    for (int d = threadIdx.x; d < dim; d += blockDim.x)
        grad[first + d] = (float)(weight * ((double)grad[first + d] / sums[blockIdx.x] - row[d]));
    if (threadIdx.x == 0) losses[blockIdx.x] = (float)(largest[blockIdx.x] + log((double)sums[blockIdx.x]) - dot / temperature);
}

// figures (2): the mean loss, and how many are empty. One block of 256 threads.
extern "C" __global__ void mean_figures(const float* losses, const float* empty, float* figures, int batch) {
    __shared__ double sums[256];
    double loss = 0, count = 0;
    for (int b = threadIdx.x; b < batch; b += blockDim.x) {
        loss += losses[b];
        if (empty) count += empty[b];
    }
    loss = block_sum(loss, sums);
    count = block_sum(count, sums);
    if (threadIdx.x == 0) {
        figures[0] = (float)(loss / batch);
        figures[1] = (float)count;
    }
}
