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

// Values that one thread moves at once, in words of 32 bits.
#define PACK 8
#define WORDS (PACK * sizeof(value) / 4)
struct alignas(16) pack {
    u32 words[WORDS];
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

// P neighbouring values as floats, PACK of them or one.
template <int P>
__device__ inline void load(const value* at, float* to) {
    if constexpr (P == 1) {
        to[0] = to_float(*at);
    } else {
        pack from = *(const pack*)at;
        for (int k = 0; k < PACK; k++) {
            u32 word = from.words[k * WORDS / PACK];
            if (sizeof(value) == 4) to[k] = as_float(word);
            else to[k] = as_float(k % 2 ? word & 0xffff0000u : word << 16);
        }
    }
}

template <int P>
__device__ inline void store(value* at, const float* from) {
    if constexpr (P == 1) {
        put(at, from[0]);
    } else {
        pack to;
        for (int w = 0; w < (int)WORDS; w++)
            to.words[w] = sizeof(value) == 4 ? as_bits(from[w]) : round_pair(from[2 * w % PACK], from[2 * w % PACK + 1]);
        *(pack*)at = to;
    }
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
