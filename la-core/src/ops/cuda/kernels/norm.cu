// Batch norm over (pixels, C), fused with the residual sum and the ReLU. Statistics and coefficients are f32.
//
// Sums over pixels: a block of 32 × 8 threads takes 32 channels of a run of pixels; a second kernel adds the runs in f64.

#define CHANNELS 32
#define LANES 8

// Adds up what the 8 lanes of a channel hold and writes it to out[0][run][c] and out[1][run][c].
__device__ inline void write_partials(float first, float second, float* out, int c, int channels) {
    __shared__ float room[2][LANES][CHANNELS];
    room[0][threadIdx.y][threadIdx.x] = first;
    room[1][threadIdx.y][threadIdx.x] = second;
    __syncthreads();
    if (threadIdx.y < 2 && c < channels) {
        float sum = 0;
        for (int lane = 0; lane < LANES; lane++) sum += room[threadIdx.y][lane][threadIdx.x];
        out[((i64)threadIdx.y * gridDim.y + blockIdx.y) * channels + c] = sum;
    }
}

// Sums of x - x[0] and of its square: relative to the first pixel, so that a large mean costs no digits.
extern "C" __global__ void norm_moments(const value* x, float* out, i64 pixels, int channels, i64 run) {
    int c = blockIdx.x * CHANNELS + threadIdx.x;
    float sum = 0, squares = 0;
    if (c < channels) {
        float shift = to_float(x[c]);
        i64 end = (blockIdx.y + 1) * run < pixels ? (blockIdx.y + 1) * run : pixels;
        for (i64 p = blockIdx.y * run + threadIdx.y; p < end; p += LANES) {
            float d = to_float(x[p * channels + c]) - shift;
            sum += d;
            squares += d * d;
        }
    }
    write_partials(sum, squares, out, c, channels);
}

// stats (3, C): mean, inverse standard deviation, unbiased variance.
extern "C" __global__ void norm_stats(const float* partials, const value* x, float* stats, i64 pixels, int channels, int runs, double epsilon) {
    int c = thread_index();
    if (c >= channels) return;
    double sum = 0, squares = 0;
    for (int run = 0; run < runs; run++) {
        sum += partials[(i64)run * channels + c];
        squares += partials[(i64)(runs + run) * channels + c];
    }
    double offset = sum / pixels, total = squares - sum * offset;
    if (total < 0) total = 0;
    stats[c] = (float)(to_float(x[c]) + offset);
    stats[channels + c] = (float)(1.0 / sqrt(total / pixels + epsilon));
    stats[2 * channels + c] = (float)(total / (pixels - 1));
}

// running += momentum · (new - running), for mean and variance.
extern "C" __global__ void norm_running(const float* stats, float* mean, float* variance, int channels, float momentum) {
    int c = thread_index();
    if (c >= channels) return;
    mean[c] += momentum * (stats[c] - mean[c]);
    variance[c] += momentum * (stats[2 * channels + c] - variance[c]);
}

// stats (3, C) from running statistics.
extern "C" __global__ void norm_from_running(const float* mean, const float* variance, float* stats, int channels, double epsilon) {
    int c = thread_index();
    if (c >= channels) return;
    stats[c] = mean[c];
    stats[channels + c] = (float)(1.0 / sqrt(variance[c] + epsilon));
    stats[2 * channels + c] = variance[c];
}

__device__ inline float normed(float x, const float* stats, const float* weight, const float* bias, int c, int channels) {
    return (x - stats[c]) * (weight[c] * stats[channels + c]) + bias[c];
}

// out = relu?(norm(x) + residual?); out may be x. Packs where C allows it, single values elsewhere.
extern "C" __global__ void norm_apply(const value* x, value* out, const value* residual, const float* stats, const float* weight,
                                      const float* bias, i64 n, int channels, int relu) {
    bool packed = channels % PACK == 0;
    i64 step = packed ? PACK : 1;
    for (i64 i = thread_index() * step; i < n; i += num_threads() * step) {
        pack from, add;
        if (packed) {
            from = *(const pack*)(x + i);
            if (residual) add = *(const pack*)(residual + i);
        } else {
            from.v[0] = x[i];
            if (residual) add.v[0] = residual[i];
        }
        int c = (int)(i % channels);
        for (int k = 0; k < step; k++) {
            float y = normed(to_float(from.v[k]), stats, weight, bias, c + k, channels);
            if (residual) y += to_float(add.v[k]);
            put(&from.v[k], relu && y < 0 ? 0.0f : y);
        }
        if (packed) *(pack*)(out + i) = from;
        else out[i] = from.v[0];
    }
}

// Sums of g and of g · (x - mean), g gated by y > 0 where relu, and kept gated where keep.
extern "C" __global__ void norm_sums(value* grad, const value* x, const value* y, const float* stats, float* out, i64 pixels, int channels,
                                     i64 run, int relu, int keep) {
    int c = blockIdx.x * CHANNELS + threadIdx.x;
    float sum = 0, dot = 0;
    if (c < channels) {
        float mean = stats[c];
        i64 end = (blockIdx.y + 1) * run < pixels ? (blockIdx.y + 1) * run : pixels;
        for (i64 p = blockIdx.y * run + threadIdx.y; p < end; p += LANES) {
            i64 at = p * channels + c;
            float g = to_float(grad[at]);
            if (relu && !(to_float(y[at]) > 0)) g = 0;
            if (keep) put(&grad[at], g);
            sum += g;
            dot += g * (to_float(x[at]) - mean);
        }
    }
    write_partials(sum, dot, out, c, channels);
}

// The gradients of weight and bias, and terms (3, C) with which dx = terms[0] · g + terms[1] · (x - mean) + terms[2].
extern "C" __global__ void norm_terms(const float* partials, const float* stats, const float* weight, float* grad_weight, float* grad_bias,
                                      float* terms, i64 pixels, int channels, int runs) {
    int c = thread_index();
    if (c >= channels) return;
    double sum = 0, dot = 0;
    for (int run = 0; run < runs; run++) {
        sum += partials[(i64)run * channels + c];
        dot += partials[(i64)(runs + run) * channels + c];
    }
    double inv_std = stats[channels + c], scale = weight[c] * inv_std;
    dot *= inv_std;
    grad_weight[c] = (float)dot;
    grad_bias[c] = (float)sum;
    terms[c] = (float)scale;
    terms[channels + c] = (float)(-scale * inv_std * dot / pixels);
    terms[2 * channels + c] = (float)(-scale * sum / pixels);
}

// out may be grad.
extern "C" __global__ void norm_input(const value* grad, const value* x, const value* y, const float* stats, const float* terms, value* out,
                                      i64 n, int channels, int gate) {
    bool packed = channels % PACK == 0;
    i64 step = packed ? PACK : 1;
    for (i64 i = thread_index() * step; i < n; i += num_threads() * step) {
        pack g, from, above;
        if (packed) {
            g = *(const pack*)(grad + i);
            from = *(const pack*)(x + i);
            if (gate) above = *(const pack*)(y + i);
        } else {
            g.v[0] = grad[i];
            from.v[0] = x[i];
            if (gate) above.v[0] = y[i];
        }
        int c = (int)(i % channels);
        for (int k = 0; k < step; k++) {
            float through = gate && !(to_float(above.v[k]) > 0) ? 0.0f : to_float(g.v[k]);
            float centred = to_float(from.v[k]) - stats[c + k];
            put(&g.v[k], terms[c + k] * through + terms[channels + c + k] * centred + terms[2 * channels + c + k]);
        }
        if (packed) *(pack*)(out + i) = g;
        else out[i] = g.v[0];
    }
}
