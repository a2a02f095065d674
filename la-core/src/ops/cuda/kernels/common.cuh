// What every kernel builds on. Compiled twice, with VALUE as float and as bf16: the type of activations.
// Only what plain C++ knows beside __global__, __shared__, __syncthreads and atomicAdd, so that the sources also run on a CPU.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

// Brain floating point: the upper half of a float. Its header is not on machines without a toolkit.
struct bf16 {
    u16 bits;
};

typedef VALUE value;

// Values that one thread moves at once.
#define PACK 4
struct alignas(PACK * sizeof(value)) pack {
    value v[PACK];
};

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(bf16 x) { return as_float((u32)x.bits << 16); }

__device__ inline void put(float* at, float x) { *at = x; }

// Rounds to nearest, ties to even; a NaN stays one.
__device__ inline void put(bf16* at, float x) {
    u32 bits = as_bits(x);
    u32 rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    at->bits = (u16)(x == x ? rounded : (bits >> 16) | 0x40u);
}

__device__ inline i64 thread_index() { return (i64)blockIdx.x * blockDim.x + threadIdx.x; }
__device__ inline i64 num_threads() { return (i64)gridDim.x * blockDim.x; }

// The sum over a block whose size is a power of two; `room` holds a value for each thread.
template <typename T>
__device__ inline T block_sum(T x, T* room) {
    room[threadIdx.x] = x;
    __syncthreads();
    for (u32 half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) room[threadIdx.x] += room[threadIdx.x + half];
        __syncthreads();
    }
    T sum = room[0];
    __syncthreads();
    return sum;
}

// The largest over a block, likewise; NaN counts as absent.
__device__ inline float block_max(float x, float* room) {
    room[threadIdx.x] = x == x ? x : -INFINITY_F;
    __syncthreads();
    for (u32 half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half && room[threadIdx.x + half] > room[threadIdx.x]) room[threadIdx.x] = room[threadIdx.x + half];
        __syncthreads();
    }
    float largest = room[0];
    __syncthreads();
    return largest;
}
