// Max-pooling with stored taps, and the mean over pixels; (B, H, W, C).

struct window {
    int height, width, out_height, out_width, channels, kernel_height, kernel_width, stride, padding;
};

// The first of equal values wins; a NaN wins, so that it reaches the loss.
extern "C" __global__ void max_pool(const value* x, value* out, u8* taps, window w, i64 n) {
    for (i64 i = thread_index(); i < n; i += num_threads()) {
        int c = (int)(i % w.channels);
        i64 pixel = i / w.channels;
        int ox = (int)(pixel % w.out_width), oy = (int)(pixel / w.out_width % w.out_height);
        i64 image = pixel / w.out_width / w.out_height;
        float best = -INFINITY_F;
        u8 tap = 0;
        for (int ky = 0; ky < w.kernel_height; ky++) {
            for (int kx = 0; kx < w.kernel_width; kx++) {
                int y = oy * w.stride + ky - w.padding, x0 = ox * w.stride + kx - w.padding;
                if (y < 0 || y >= w.height || x0 < 0 || x0 >= w.width) continue;
                float v = to_float(x[((image * w.height + y) * w.width + x0) * w.channels + c]);
                if (v > best || v != v) {
                    best = v;
                    tap = (u8)(ky * w.kernel_width + kx);
                }
            }
        }
        put(&out[i], best);
        taps[i] = tap;
    }
}

// Each input value gathers the gradients of the windows that it won: no atomics, no zero-filled buffer.
extern "C" __global__ void max_pool_backward(const value* grad, const u8* taps, value* out, window w, i64 n) {
    for (i64 i = thread_index(); i < n; i += num_threads()) {
        int c = (int)(i % w.channels);
        i64 pixel = i / w.channels;
        int x = (int)(pixel % w.width), y = (int)(pixel / w.width % w.height);
        i64 image = pixel / w.width / w.height;
        float sum = 0;
        for (int ky = 0; ky < w.kernel_height; ky++) {
            int from_y = y + w.padding - ky;
            if (from_y < 0 || from_y % w.stride != 0 || from_y / w.stride >= w.out_height) continue;
            for (int kx = 0; kx < w.kernel_width; kx++) {
                int from_x = x + w.padding - kx;
                if (from_x < 0 || from_x % w.stride != 0 || from_x / w.stride >= w.out_width) continue;
                i64 at = ((image * w.out_height + from_y / w.stride) * w.out_width + from_x / w.stride) * w.channels + c;
                if (taps[at] == ky * w.kernel_width + kx) sum += to_float(grad[at]);
            }
        }
        put(&out[i], sum);
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
