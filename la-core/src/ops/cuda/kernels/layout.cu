// Weights between our layout and cuDNN's, and casts between f32 and the activations' type.

#define TILE 32

// out[c][r] = in[r][c]: (taps · C, O) in f32 to (O, taps · C). Blocks of 32 × 8 threads, one for each tile of 32 × 32.
extern "C" __global__ void weights_in(const float* in, value* out, int rows, int columns) {
    __shared__ float tile[TILE][TILE + 1];
    int r0 = blockIdx.y * TILE, c0 = blockIdx.x * TILE;
    for (int i = threadIdx.y; i < TILE; i += 8)
        if (r0 + i < rows && c0 + (int)threadIdx.x < columns) tile[i][threadIdx.x] = in[(i64)(r0 + i) * columns + c0 + threadIdx.x];
    __syncthreads();
    for (int i = threadIdx.y; i < TILE; i += 8)
        if (c0 + i < columns && r0 + (int)threadIdx.x < rows) put(&out[(i64)(c0 + i) * rows + r0 + threadIdx.x], tile[threadIdx.x][i]);
}

// The way back, for gradients: (O, taps · C) to (taps · C, O) in f32; rows and columns are those of the input.
extern "C" __global__ void weights_out(const value* in, float* out, int rows, int columns) {
    __shared__ float tile[TILE][TILE + 1];
    int r0 = blockIdx.y * TILE, c0 = blockIdx.x * TILE;
    for (int i = threadIdx.y; i < TILE; i += 8)
        if (r0 + i < rows && c0 + (int)threadIdx.x < columns)
            tile[i][threadIdx.x] = to_float(in[(i64)(r0 + i) * columns + c0 + threadIdx.x]);
    __syncthreads();
    for (int i = threadIdx.y; i < TILE; i += 8)
        if (c0 + i < columns && r0 + (int)threadIdx.x < rows) out[(i64)(c0 + i) * rows + r0 + threadIdx.x] = tile[threadIdx.x][i];
}

extern "C" __global__ void from_f32(const float* in, value* out, i64 n) {
    for (i64 i = thread_index(); i < n; i += num_threads()) put(&out[i], in[i]);
}

extern "C" __global__ void to_f32(const value* in, float* out, i64 n) {
    for (i64 i = thread_index(); i < n; i += num_threads()) out[i] = to_float(in[i]);
}
