// Batch norm over (pixels, C), fused with the residual sum and the ReLU. Statistics and coefficients are f32.
//
// A thread keeps a pack of channels (one channel where a pack does not divide C) with their coefficients in registers, and walks
// over pixels. A block of 256 threads takes a window of up to 256 packs, the blockIdx.y-th, and `lanes` pixels at a time. For
// sums it takes a run of pixels; a second kernel adds the runs in f64.

#define NORM_THREADS 256
// Pixels that a thread has under way at once.
#define UNDER_WAY 4

struct place {
    // The first channel of the window and how many it has; the thread's own first channel.
    int first, width, c;
    int lane, lanes;
};

template <int P>
__device__ inline place own_place(int channels) {
    int packs = channels / P, before = blockIdx.y * blockDim.x;
    int across = packs - before < (int)blockDim.x ? packs - before : (int)blockDim.x;
    place at;
    at.first = before * P;
    at.width = across * P;
    at.c = at.first + threadIdx.x % across * P;
    at.lane = threadIdx.x / across;
    at.lanes = blockDim.x / across;
    return at;
}

// The end of the block's run of pixels.
__device__ inline i64 run_end(i64 run, i64 pixels) {
    i64 end = ((i64)blockIdx.x + 1) * run;
    return end < pixels ? end : pixels;
}

// Adds up what the lanes hold of each channel of the window, and writes it to out[run][c].
template <int P>
__device__ inline void write_partials(const float* values, float* room, place at, int channels, float* out) {
    if (at.lane < at.lanes)
        for (int k = 0; k < P; k++) room[at.lane * at.width + at.c - at.first + k] = values[k];
    __syncthreads();
    for (int i = threadIdx.x; i < at.width; i += blockDim.x) {
        float sum = 0;
        for (int lane = 0; lane < at.lanes; lane++) sum += room[lane * at.width + i];
        out[(i64)blockIdx.x * channels + at.first + i] = sum;
    }
    __syncthreads();
}

// Adds up what the runs hold of two sums, in f64: a block of 1024 threads takes 32 channels, each 32 runs at a time. True for
// the threads that have the result.
__device__ inline bool sum_runs(const float* partials, int channels, int runs, double* first, double* second) {
    __shared__ double room[2][32][33];
    int x = threadIdx.x % 32, y = threadIdx.x / 32, c = blockIdx.x * 32 + x;
    double sums[2] = {0, 0};
    if (c < channels)
        for (int run = y; run < runs; run += 32)
            for (int q = 0; q < 2; q++) sums[q] += partials[((i64)q * runs + run) * channels + c];
    for (int q = 0; q < 2; q++) room[q][y][x] = sums[q];
    __syncthreads();
    if (y > 0 || c >= channels) return false;
    for (int other = 1; other < 32; other++)
        for (int q = 0; q < 2; q++) sums[q] += room[q][other][x];
    *first = sums[0];
    *second = sums[1];
    return true;
}

// Sums of x - x[0] and of its square: relative to the first pixel, so that a large mean costs no digits.
template <int P>
__device__ inline void moments(const value* x, float* out, float* room, i64 pixels, int channels, i64 run) {
    place at = own_place<P>(channels);
    float sum[P] = {}, squares[P] = {}, shift[P];
    load<P>(x + at.c, shift);
    i64 end = run_end(run, pixels);
    for (i64 p = blockIdx.x * run + at.lane; at.lane < at.lanes && p < end; p += UNDER_WAY * at.lanes) {
        float values[UNDER_WAY][P];
        for (int u = 0; u < UNDER_WAY; u++) load<P>(x + (p + u * at.lanes < end ? p + u * at.lanes : 0) * channels + at.c, values[u]);
        for (int u = 0; u < UNDER_WAY; u++)
            for (int k = 0; k < P; k++) {
                float d = p + u * at.lanes < end ? values[u][k] - shift[k] : 0.0f;
                sum[k] += d;
                squares[k] += d * d;
            }
    }
    write_partials<P>(sum, room, at, channels, out);
    write_partials<P>(squares, room, at, channels, out + (i64)gridDim.x * channels);
}

extern "C" __global__ void norm_moments(const value* x, float* out, i64 pixels, int channels, i64 run) {
    __shared__ float room[NORM_THREADS * PACK];
    if (channels % PACK == 0) moments<PACK>(x, out, room, pixels, channels, run);
    else moments<1>(x, out, room, pixels, channels, run);
}

// stats (3, C): mean, inverse standard deviation, unbiased variance.
extern "C" __global__ void norm_stats(const float* partials, const value* x, float* stats, i64 pixels, int channels, int runs, double epsilon) {
    double sum, squares;
    if (!sum_runs(partials, channels, runs, &sum, &squares)) return;
    int c = blockIdx.x * 32 + threadIdx.x % 32;
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

// The coefficients of a thread's channels: norm(x) = (x - mean) · scale + bias. The mean goes first, since x may be small against it.
template <int P>
struct affine {
    float mean[P], scale[P], bias[P];

    __device__ affine(const float* stats, const float* weight, const float* bias_of, int c, int channels) {
        for (int k = 0; k < P; k++) {
            mean[k] = stats[c + k];
            scale[k] = weight[c + k] * stats[channels + c + k];
            bias[k] = bias_of[c + k];
        }
    }

    __device__ float operator()(float x, int k) const { return (x - mean[k]) * scale[k] + bias[k]; }
};

template <int P>
__device__ inline void apply(const value* x, value* out, const value* residual, const float* stats, const float* weight, const float* bias,
                             i64 pixels, int channels, int relu) {
    place at = own_place<P>(channels);
    if (at.lane >= at.lanes) return;
    affine<P> norm(stats, weight, bias, at.c, channels);
    i64 step = (i64)gridDim.x * at.lanes;
    for (i64 p = (i64)blockIdx.x * at.lanes + at.lane; p < pixels; p += 2 * step) {
        float y[2][P], add[2][P];
        for (int u = 0; u < 2; u++) {
            i64 from = (p + u * step < pixels ? p + u * step : p) * channels + at.c;
            load<P>(x + from, y[u]);
            if (residual) load<P>(residual + from, add[u]);
        }
        for (int u = 0; u < 2; u++) {
            if (p + u * step >= pixels) break;
            for (int k = 0; k < P; k++) {
                y[u][k] = norm(y[u][k], k) + (residual ? add[u][k] : 0.0f);
                if (relu && y[u][k] < 0) y[u][k] = 0;
            }
            store<P>(out + (p + u * step) * channels + at.c, y[u]);
        }
    }
}

// out = relu?(norm(x) + residual?); out may be x.
extern "C" __global__ void norm_apply(const value* x, value* out, const value* residual, const float* stats, const float* weight,
                                      const float* bias, i64 pixels, int channels, int relu) {
    if (channels % PACK == 0) apply<PACK>(x, out, residual, stats, weight, bias, pixels, channels, relu);
    else apply<1>(x, out, residual, stats, weight, bias, pixels, channels, relu);
}

template <int P>
__device__ inline void sums(value* grad, const value* x, const value* y, const float* stats, const float* weight, const float* bias, float* out,
                            float* room, i64 pixels, int channels, i64 run, int relu) {
    place at = own_place<P>(channels);
    affine<P> norm(stats, weight, bias, at.c, channels);
    float sum[P] = {}, dot[P] = {};
    i64 end = run_end(run, pixels);
    for (i64 p = blockIdx.x * run + at.lane; at.lane < at.lanes && p < end; p += 2 * at.lanes) {
        float g[2][P], from[2][P], above[2][P];
        for (int u = 0; u < 2; u++) {
            i64 i = (p + u * at.lanes < end ? p + u * at.lanes : p) * channels + at.c;
            load<P>(grad + i, g[u]);
            load<P>(x + i, from[u]);
            if (y) load<P>(y + i, above[u]);
        }
        for (int u = 0; u < 2; u++) {
            if (p + u * at.lanes >= end) break;
            for (int k = 0; k < P; k++) {
                if (relu && !((y ? above[u][k] : norm(from[u][k], k)) > 0)) g[u][k] = 0;
                sum[k] += g[u][k];
                dot[k] += g[u][k] * (from[u][k] - norm.mean[k]);
            }
            if (y) store<P>(grad + (p + u * at.lanes) * channels + at.c, g[u]);
        }
    }
    write_partials<P>(sum, room, at, channels, out);
    write_partials<P>(dot, room, at, channels, out + (i64)gridDim.x * channels);
}

// Sums of g and of g · (x - mean), with g gated where relu: by y > 0 and kept gated where there is a y, else by norm(x) > 0.
extern "C" __global__ void norm_sums(value* grad, const value* x, const value* y, const float* stats, const float* weight, const float* bias,
                                     float* out, i64 pixels, int channels, i64 run, int relu) {
    __shared__ float room[NORM_THREADS * PACK];
    if (channels % PACK == 0) sums<PACK>(grad, x, y, stats, weight, bias, out, room, pixels, channels, run, relu);
    else sums<1>(grad, x, y, stats, weight, bias, out, room, pixels, channels, run, relu);
}

// The gradients of weight and bias, and terms (2, C) with which dx = scale · g + terms[0] · (x - mean) + terms[1].
extern "C" __global__ void norm_terms(const float* partials, const float* stats, const float* weight, float* grad_weight, float* grad_bias,
                                      float* terms, i64 pixels, int channels, int runs) {
    double sum, dot;
    if (!sum_runs(partials, channels, runs, &sum, &dot)) return;
    int c = blockIdx.x * 32 + threadIdx.x % 32;
    double inv_std = stats[channels + c], scale = weight[c] * inv_std;
    dot *= inv_std;
    grad_weight[c] = (float)dot;
    grad_bias[c] = (float)sum;
    terms[c] = (float)(-scale * inv_std * dot / pixels);
    terms[channels + c] = (float)(-scale * sum / pixels);
}

template <int P>
__device__ inline void input_grad(const value* grad, const value* x, const float* stats, const float* weight, const float* bias,
                                  const float* terms, value* out, i64 pixels, int channels, int gate) {
    place at = own_place<P>(channels);
    if (at.lane >= at.lanes) return;
    affine<P> norm(stats, weight, bias, at.c, channels);
    float slope[P], offset[P];
    for (int k = 0; k < P; k++) {
        slope[k] = terms[at.c + k];
        offset[k] = terms[channels + at.c + k];
    }
    i64 step = (i64)gridDim.x * at.lanes;
    for (i64 p = (i64)blockIdx.x * at.lanes + at.lane; p < pixels; p += 2 * step) {
        float g[2][P], from[2][P];
        for (int u = 0; u < 2; u++) {
            i64 i = (p + u * step < pixels ? p + u * step : p) * channels + at.c;
            load<P>(grad + i, g[u]);
            load<P>(x + i, from[u]);
        }
        for (int u = 0; u < 2; u++) {
            if (p + u * step >= pixels) break;
            for (int k = 0; k < P; k++) {
                float through = gate && !(norm(from[u][k], k) > 0) ? 0.0f : g[u][k];
                g[u][k] = norm.scale[k] * through + slope[k] * (from[u][k] - norm.mean[k]) + offset[k];
            }
            store<P>(out + (p + u * step) * channels + at.c, g[u]);
        }
    }
}

// The gradient to the input; g is gated by norm(x) > 0 where `gate`. out may be grad.
extern "C" __global__ void norm_input(const value* grad, const value* x, const float* stats, const float* weight, const float* bias,
                                      const float* terms, value* out, i64 pixels, int channels, int gate) {
    if (channels % PACK == 0) input_grad<PACK>(grad, x, stats, weight, bias, terms, out, pixels, channels, gate);
    else input_grad<1>(grad, x, stats, weight, bias, terms, out, pixels, channels, gate);
}
