// The k largest of each row of scores, by selection: one block of 1024 threads a row, which reads it two or three times.
//
// A histogram over equal steps of the score (cosines lie in -1 to 1, a few in each bin) finds the bin of the k-th; what lies
// above is taken as it is. Within that bin a radix walk over (score, index) narrows down until the rest fits shared memory.
// Equal scores go to the lower index; NaN counts as the least of all.

#define BINS 2048
#define POOL 1024
#define AT_ONCE 8

// A score and its index as one number: larger for larger scores, then for lower indices.
__device__ inline u64 key_of(float score, u32 index) {
    u32 bits = as_bits(score);
    u32 ordered = bits >> 31 ? ~bits : bits | 0x80000000u;
    if (score != score) ordered = 0;
    return (u64)ordered << 32 | (u32)~index;
}

// Rises with the score.
__device__ inline int bin_of(float score) {
    float at = (score + 1.0f) * (BINS / 2);
    if (!(at > 0)) return 0;
    return at < BINS - 1 ? (int)at : BINS - 1;
}

// Calls f(i, score) for each score of the row, several loads under way at once.
template <typename F>
__device__ inline void each_score(const float* row, i64 n, F f) {
    for (i64 start = 0; start < n; start += (i64)AT_ONCE * blockDim.x) {
        float s[AT_ONCE];
        for (int k = 0; k < AT_ONCE; k++) {
            i64 i = start + (i64)k * blockDim.x + threadIdx.x;
            s[k] = i < n ? row[i] : 0.0f;
        }
        for (int k = 0; k < AT_ONCE; k++) {
            i64 i = start + (i64)k * blockDim.x + threadIdx.x;
            if (i < n) f(i, s[k]);
        }
    }
}

// Finds, from the top, the bin in which `wanted` is reached; `found` gets the bin, the count above it, and its own count.
__device__ inline void find_bin(const u32* bins, u32 wanted, u32* found) {
    __shared__ u32 groups[64];
    if (threadIdx.x < 64) {
        u32 sum = 0;
        for (int i = 0; i < BINS / 64; i++) sum += bins[threadIdx.x * (BINS / 64) + i];
        groups[threadIdx.x] = sum;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        u32 above = 0;
        int group = 63;
        while (group > 0 && above + groups[group] < wanted) above += groups[group--];
        int bin = group * (BINS / 64) + BINS / 64 - 1;
        while (bin > group * (BINS / 64) && above + bins[bin] < wanted) above += bins[bin--];
        found[0] = bin;
        found[1] = above;
        found[2] = bins[bin];
    }
    __syncthreads();
}

__device__ inline void clear_bins(u32* bins) {
    for (int i = threadIdx.x; i < BINS; i += blockDim.x) bins[i] = 0;
    __syncthreads();
}

extern "C" __global__ void select_largest(const float* scores, u32* indices, float* values, i64 n, int k) {
    __shared__ u32 bins[BINS];
    __shared__ u64 pool[POOL];
    __shared__ u32 found[3];
    __shared__ u32 num_written, num_pooled;
    const float* row = scores + (i64)blockIdx.x * n;
    indices += (i64)blockIdx.x * k;
    values += (i64)blockIdx.x * k;

    clear_bins(bins);
    each_score(row, n, [&](i64 i, float s) { atomicAdd(&bins[bin_of(s)], 1u); });
    __syncthreads();
    find_bin(bins, k, found);
    int bin = (int)found[0];
    // Still wanted of the bin, and how many there are that match so far.
    u32 wanted = k - found[1], matching = found[2];

    // Keys match whose bits from `shift` on are `prefix`.
    int shift = 64;
    u64 prefix = 0;
    while (matching > wanted && matching > POOL && shift > 0) {
        int next = shift > 11 ? shift - 11 : 0;
        clear_bins(bins);
        each_score(row, n, [&](i64 i, float s) {
            if (bin_of(s) != bin) return;
            u64 key = key_of(s, (u32)i);
            if (shift == 64 || key >> shift == prefix) atomicAdd(&bins[(key >> next) & ((1u << (shift - next)) - 1u)], 1u);
        });
        __syncthreads();
        find_bin(bins, wanted, found);
        prefix = (shift == 64 ? 0 : prefix << (shift - next)) | found[0];
        wanted -= found[1];
        matching = found[2];
        shift = next;
        __syncthreads();
    }

    if (threadIdx.x == 0) num_written = num_pooled = 0;
    __syncthreads();
    each_score(row, n, [&](i64 i, float s) {
        int own = bin_of(s);
        if (own < bin) return;
        u64 key = key_of(s, (u32)i);
        u64 high = shift == 64 ? 0 : key >> shift;
        if (own == bin && high < prefix) return;
        bool is_above = own > bin || high > prefix;
        if (is_above || matching == wanted) {
            u32 to = atomicAdd(&num_written, 1u);
            indices[to] = (u32)i;
            values[to] = s;
        } else {
            pool[atomicAdd(&num_pooled, 1u)] = key;
        }
    });
    __syncthreads();
    for (u32 i = threadIdx.x; i < num_pooled; i += blockDim.x) {
        u32 rank = 0;
        for (u32 j = 0; j < num_pooled; j++) rank += pool[j] > pool[i];
        if (rank < wanted) {
            u32 index = ~(u32)pool[i];
            u32 to = k - wanted + rank;
            indices[to] = index;
            values[to] = row[index];
        }
    }
}
