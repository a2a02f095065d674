// Max-pooling with stored taps, and the mean over pixels; (B, H, W, C).

struct window {
    int height, width, out_height, out_width, channels, kernel_height, kernel_width, stride, padding;
};

// A thread takes a pack of channels, or one channel where a pack does not divide them; `i` counts packs.
template <int P>
__device__ inline void pool_one(const value* x, value* out, u8* taps, window w, i64 i) {
    int packs = w.channels / P, c = (int)(i % packs) * P;
    i64 pixel = i / packs;
    int ox = (int)(pixel % w.out_width), oy = (int)(pixel / w.out_width % w.out_height);
    i64 image = pixel / w.out_width / w.out_height;
    float best[P];
    u32 tap[P] = {};
    for (int k = 0; k < P; k++) best[k] = -INFINITY_F;
    for (int ky = 0; ky < w.kernel_height; ky++) {
        for (int kx = 0; kx < w.kernel_width; kx++) {
            int y = oy * w.stride + ky - w.padding, x0 = ox * w.stride + kx - w.padding;
            if (y < 0 || y >= w.height || x0 < 0 || x0 >= w.width) continue;
            float v[P];
            load<P>(x + ((image * w.height + y) * w.width + x0) * w.channels + c, v);
            for (int k = 0; k < P; k++) {
                if (v[k] > best[k] || v[k] != v[k]) {
                    best[k] = v[k];
                    tap[k] = ky * w.kernel_width + kx;
                }
            }
        }
    }
    i64 to = pixel * w.channels + c;
    store<P>(out + to, best);
    if (P == 1) {
        taps[to] = (u8)tap[0];
    } else {
        u64 bytes = 0;
        for (int k = 0; k < P; k++) bytes |= (u64)tap[k] << (8 * k);
        *(u64*)(taps + to) = bytes;
    }
}

// The first of equal values wins; a NaN wins, so that it reaches the loss.
extern "C" __global__ void max_pool(const value* x, value* out, u8* taps, window w, i64 n) {
    bool packed = w.channels % PACK == 0;
    i64 count = packed ? n / PACK : n;
    for (i64 i = thread_index(); i < count; i += num_threads()) {
        if (packed) pool_one<PACK>(x, out, taps, w, i);
        else pool_one<1>(x, out, taps, w, i);
    }
}

template <int P>
__device__ inline void spread_one(const value* grad, const u8* taps, value* out, window w, i64 i) {
    int packs = w.channels / P, c = (int)(i % packs) * P;
    i64 pixel = i / packs;
    int x = (int)(pixel % w.width), y = (int)(pixel / w.width % w.height);
    i64 image = pixel / w.width / w.height;
    float sum[P] = {};
    for (int ky = 0; ky < w.kernel_height; ky++) {
        int from_y = y + w.padding - ky;
        if (from_y < 0 || from_y % w.stride != 0 || from_y / w.stride >= w.out_height) continue;
        for (int kx = 0; kx < w.kernel_width; kx++) {
            int from_x = x + w.padding - kx;
            if (from_x < 0 || from_x % w.stride != 0 || from_x / w.stride >= w.out_width) continue;
            i64 at = ((image * w.out_height + from_y / w.stride) * w.out_width + from_x / w.stride) * w.channels + c;
            u64 won = P == 1 ? taps[at] : *(const u64*)(taps + at);
            float g[P];
            load<P>(grad + at, g);
            for (int k = 0; k < P; k++)
                if ((int)(won >> (8 * k) & 0xff) == ky * w.kernel_width + kx) sum[k] += g[k];
        }
    }
    store<P>(out + pixel * w.channels + c, sum);
}

// Each input value gathers the gradients of the windows that it won: no atomics, no zero-filled buffer.
extern "C" __global__ void max_pool_backward(const value* grad, const u8* taps, value* out, window w, i64 n) {
    bool packed = w.channels % PACK == 0;
    i64 count = packed ? n / PACK : n;
    for (i64 i = thread_index(); i < count; i += num_threads()) {
        if (packed) spread_one<PACK>(grad, taps, out, w, i);
        else spread_one<1>(grad, taps, out, w, i);
    }
}

// (B, P, C) to (B, C) in f32; neighbouring threads take neighbouring channels.
extern "C" __global__ void mean_pool(const value* x, float* out, int pixels, int channels, i64 n) {
    for (i64 i = thread_index(); i < n; i += num_threads()) {
        const value* at = x + i / channels * pixels * channels + i % channels;
        float sum = 0;
        for (int p = 0; p < pixels; p++) sum += to_float(at[(i64)p * channels]);
        out[i] = sum / pixels;
    }
}

extern "C" __global__ void mean_pool_backward(const float* grad, value* out, int pixels, int channels, i64 n) {
    for (i64 i = thread_index(); i < n; i += num_threads()) {
        i64 image = i / channels / pixels;
        put(&out[i], grad[image * channels + i % channels] / pixels);
    }
}
