// v = momentum · v + (g + decay · w), w = w - rate · v, over many tensors in one launch; the rate lies at `rate_at` where there is such.

#define MAX_TENSORS 64
#define CHUNK 4096

struct tensors {
    float* weight[MAX_TENSORS];
    float* velocity[MAX_TENSORS];
    const float* grad[MAX_TENSORS];
    i64 len[MAX_TENSORS];
    float decay[MAX_TENSORS];
    // The first block of each tensor; a block takes CHUNK values.
    u32 first[MAX_TENSORS];
};

extern "C" __global__ void sgd(tensors all, int count, float momentum, float rate, const float* rate_at) {
    if (rate_at) rate = *rate_at;
    int t = 0;
    while (t + 1 < count && all.first[t + 1] <= blockIdx.x) t++;
    i64 start = (i64)(blockIdx.x - all.first[t]) * CHUNK;
    i64 end = start + CHUNK < all.len[t] ? start + CHUNK : all.len[t];
    for (i64 i = start + threadIdx.x; i < end; i += blockDim.x) {
        float w = all.weight[t][i];
        float v = momentum * all.velocity[t][i] + (all.grad[t][i] + all.decay[t] * w);
        all.velocity[t][i] = v;
        all.weight[t][i] = w - rate * v;
    }
}
