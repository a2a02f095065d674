// Rows of embeddings and of the bank, all f32. A block of 128 threads a row, unless it says otherwise.

#define MIN_NORM 1e-12f

extern "C" __global__ void normalize_rows(const float* x, float* unit, float* norms, int dim) {
    __shared__ float room[128];
    const float* row = x + (i64)blockIdx.x * dim;
    float squares = 0;
    for (int d = threadIdx.x; d < dim; d += blockDim.x) squares += row[d] * row[d];
    float norm = sqrtf(block_sum(squares, room));
    float divisor = norm < MIN_NORM ? MIN_NORM : norm;
    for (int d = threadIdx.x; d < dim; d += blockDim.x) unit[(i64)blockIdx.x * dim + d] = row[d] / divisor;
    if (threadIdx.x == 0) norms[blockIdx.x] = norm;
}

// (g - (g · u) u) / |x|
extern "C" __global__ void normalize_rows_backward(const float* unit, const float* norms, const float* grad, float* out, int dim) {
    __shared__ float room[128];
    i64 first = (i64)blockIdx.x * dim;
    float dot = 0;
    for (int d = threadIdx.x; d < dim; d += blockDim.x) dot += grad[first + d] * unit[first + d];
    dot = block_sum(dot, room);
    float norm = norms[blockIdx.x], divisor = norm < MIN_NORM ? MIN_NORM : norm;
    for (int d = threadIdx.x; d < dim; d += blockDim.x) out[first + d] = (grad[first + d] - dot * unit[first + d]) / divisor;
}

extern "C" __global__ void add_bias(float* y, const float* bias, int columns, i64 n) {
    for (i64 i = thread_index(); i < n; i += num_threads()) y[i] += bias[i % columns];
}

// One thread a column.
extern "C" __global__ void sum_rows(const float* x, float* out, int rows, int columns) {
    int c = thread_index();
    if (c >= columns) return;
    double sum = 0;
    for (int r = 0; r < rows; r++) sum += x[(i64)r * columns + c];
    out[c] = (float)sum;
}

extern "C" __global__ void gather_rows(const float* rows, const u32* indices, float* out, int dim, i64 n) {
    for (i64 i = thread_index(); i < n; i += num_threads()) out[i] = rows[(i64)indices[i / dim] * dim + i % dim];
}

// out = scale · (a + b)
extern "C" __global__ void scaled_sum(const float* a, const float* b, float* out, float scale, i64 n) {
    for (i64 i = thread_index(); i < n; i += num_threads()) out[i] = scale * (a[i] + b[i]);
}

// row = normalise(m row + (1 - m) embedding). The block of the first of equal indices moves that row for all, in order; an
// embedding that is not finite moves nothing.
extern "C" __global__ void update_bank(float* rows, const u32* indices, const float* embeddings, float momentum, int batch, int dim) {
    __shared__ float room[128];
    for (int before = 0; before < (int)blockIdx.x; before++)
        if (indices[before] == indices[blockIdx.x]) return;
    float* row = rows + (i64)indices[blockIdx.x] * dim;
    for (int b = blockIdx.x; b < batch; b++) {
        if (indices[b] != indices[blockIdx.x]) continue;
        const float* embedding = embeddings + (i64)b * dim;
        float squares = 0, unusual = 0;
        for (int d = threadIdx.x; d < dim; d += blockDim.x) {
            float x = momentum * row[d] + (1 - momentum) * embedding[d];
            squares += x * x;
            unusual += embedding[d] - embedding[d] == 0 ? 0 : 1;
        }
        float norm = sqrtf(block_sum(squares, room));
        if (block_sum(unusual, room) > 0) continue;
        for (int d = threadIdx.x; d < dim; d += blockDim.x) {
            // Opposite directions cancelled: the new one stands.
            if (norm == 0) row[d] = embedding[d];
            else row[d] = (momentum * row[d] + (1 - momentum) * embedding[d]) / (norm < MIN_NORM ? MIN_NORM : norm);
        }
        __syncthreads();
    }
}

// How many values are NaN or infinite.
extern "C" __global__ void count_not_finite(const float* x, u32* count, i64 n) {
    u32 found = 0;
    for (i64 i = thread_index(); i < n; i += num_threads()) found += x[i] - x[i] == 0 ? 0 : 1;
    if (found) atomicAdd(count, found);
}
