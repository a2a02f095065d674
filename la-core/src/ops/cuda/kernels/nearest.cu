// The nearest centroid of each point by tensor cores, in TF32: scores stay in registers and never reach memory.
//
// A warp keeps 32 points of NEAREST_DIM values in registers, as fragments of 16 × 8 values, and a block of 8 warps walks over all
// centroids, 32 at a time, which are copied to shared memory while the 32 before them are multiplied. Only for real GPUs: the
// emulator knows no warps.

#define NEAREST_DIM 128
#define NEAREST_STEPS (NEAREST_DIM / 8)
#define NEAREST_TILE 32
// A row's length in shared memory: no two lanes of a fragment meet in a bank.
#define NEAREST_ROW (NEAREST_DIM + 4)

__device__ inline u32 tf32_of(float x) {
    u32 bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return bits;
}

// Centroids rounded to TF32, and |c|² / 2: a warp each.
extern "C" __global__ void round_centroids(const float* centroids, float* rounded, float* half, int k) {
    int c = (int)(thread_index() / 32), lane = threadIdx.x % 32;
    if (c >= k) return;
    float sum = 0;
    for (int d = lane; d < NEAREST_DIM; d += 32) {
        float x = centroids[(i64)c * NEAREST_DIM + d];
        sum += x * x;
        rounded[(i64)c * NEAREST_DIM + d] = as_float(tf32_of(x));
    }
    for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
    if (lane == 0) half[c] = 0.5f * sum;
}

// Starts the copy of the 32 centroids from `first` on and of their halves; those after the last are infinitely far.
__device__ inline void copy_tile(const float* centroids, const float* half, int first, int k, float* tile, float* halves) {
    for (int i = threadIdx.x; i < NEAREST_TILE * NEAREST_DIM / 4; i += blockDim.x) {
        int row = i / (NEAREST_DIM / 4), at = i % (NEAREST_DIM / 4) * 4, c = first + row < k ? first + row : k - 1;
        u32 to = (u32)__cvta_generic_to_shared(tile + row * NEAREST_ROW + at);
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(centroids + (i64)c * NEAREST_DIM + at));
    }
    if (threadIdx.x < NEAREST_TILE) {
        int c = first + (int)threadIdx.x;
        halves[threadIdx.x] = c < k ? half[c] : INFINITY_F;
    }
    asm volatile("cp.async.commit_group;");
}

__device__ inline void multiply(float* sums, const u32* a, u32 b0, u32 b1) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// labels[i] = arg max over c of x_i · c - |c|² / 2, the lowest of equal ones. Blocks of 256 threads for 256 points each.
extern "C" __global__ void __launch_bounds__(256, 1)
    nearest_centroids(const float* points, const float* centroids, const float* half, u32* labels, i64 n, int k) {
    __shared__ alignas(16) float tiles[2][NEAREST_TILE * NEAREST_ROW];
    __shared__ float halves[2][NEAREST_TILE];
    int lane = threadIdx.x % 32, row = lane / 4, column = lane % 4;
    i64 first = ((i64)blockIdx.x * 8 + threadIdx.x / 32) * 32;

    u32 a[2][NEAREST_STEPS][4];
#pragma unroll
    for (int m = 0; m < 2; m++)
#pragma unroll
        for (int step = 0; step < NEAREST_STEPS; step++)
#pragma unroll
            for (int part = 0; part < 4; part++) {
                i64 point = first + m * 16 + row + part % 2 * 8;
                point = point < n ? point : n - 1;
                a[m][step][part] = tf32_of(points[point * NEAREST_DIM + step * 8 + column + part / 2 * 4]);
            }
    float best[2][2] = {{-INFINITY_F, -INFINITY_F}, {-INFINITY_F, -INFINITY_F}};
    u32 label[2][2] = {{0, 0}, {0, 0}};

    copy_tile(centroids, half, 0, k, tiles[0], halves[0]);
    for (int from = 0, buffer = 0; from < k; from += NEAREST_TILE, buffer ^= 1) {
        if (from + NEAREST_TILE < k) {
            copy_tile(centroids, half, from + NEAREST_TILE, k, tiles[buffer ^ 1], halves[buffer ^ 1]);
            asm volatile("cp.async.wait_group 1;");
        } else {
            asm volatile("cp.async.wait_group 0;");
        }
        __syncthreads();
        float sums[4][2][4] = {};
        const float* tile = tiles[buffer] + row * NEAREST_ROW + column;
#pragma unroll
        for (int step = 0; step < NEAREST_STEPS; step++) {
#pragma unroll
            for (int q = 0; q < 4; q++) {
                const float* b = tile + q * 8 * NEAREST_ROW + step * 8;
                u32 b0 = as_bits(b[0]), b1 = as_bits(b[4]);
                multiply(sums[q][0], a[0][step], b0, b1);
                multiply(sums[q][1], a[1][step], b0, b1);
            }
        }
#pragma unroll
        for (int q = 0; q < 4; q++)
            for (int x = 0; x < 2; x++) {
                int at = q * 8 + column * 2 + x;
                float away = halves[buffer][at];
                for (int m = 0; m < 2; m++)
                    for (int y = 0; y < 2; y++) {
                        float score = sums[q][m][y * 2 + x] - away;
                        if (score > best[m][y]) {
                            best[m][y] = score;
                            label[m][y] = from + at;
                        }
                    }
            }
        // The next round writes over what this one read.
        __syncthreads();
    }
    for (int m = 0; m < 2; m++)
        for (int y = 0; y < 2; y++) {
            for (int offset = 1; offset < 4; offset *= 2) {
                float other = __shfl_xor_sync(0xffffffffu, best[m][y], offset);
                u32 of_other = __shfl_xor_sync(0xffffffffu, label[m][y], offset);
                if (other > best[m][y] || (other == best[m][y] && of_other < label[m][y])) {
                    best[m][y] = other;
                    label[m][y] = of_other;
                }
            }
            i64 point = first + m * 16 + row + y * 8;
            if (column == 0 && point < n) labels[point] = label[m][y];
        }
}
