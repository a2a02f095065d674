// Weights between our layout and cuDNN's, and copies and casts.

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

// Eight at a time where both lie so.
extern "C" __global__ void copy_halves(const u16* in, u16* out, i64 n) {
    struct alignas(16) eight {
        u64 words[2];
    };
    bool packed = ((u64)in | (u64)out) % 16 == 0;
    for (i64 i = thread_index() * 8; i < n; i += num_threads() * 8) {
        if (packed && i + 8 <= n) *(eight*)(out + i) = *(const eight*)(in + i);
        else
            for (i64 k = i; k < i + 8 && k < n; k++) out[k] = in[k];
    }
}
