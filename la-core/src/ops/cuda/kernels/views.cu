// Random views of pictures that lie on the GPU, as `augment` makes them on the CPU: the host draws, the kernel does the rest.
//
// Each view has VIEW_WORDS words: the picture's first byte (low, high word), its width, the crop's left, top, width, height, flags,
// the number of colour changes, and for each of four a kind and the bits of its factor.

#define VIEW_WORDS 17
#define IS_GRAY 1u
#define IS_FLIPPED 2u
#define BRIGHTNESS 0u
#define CONTRAST 1u
#define SATURATION 2u

// The filter along one side of a crop. For each output pixel: its first input pixel, how many count, and their weights in steps
// of 2^-precision; `stride` words in all.
struct filter {
    const u32* words;
    int stride, precision;
};

// `sides` holds, for each length of a side, where its filter begins, its stride and its precision.
__device__ inline filter filter_of(const u32* sides, const u32* words, u32 side) {
    return {words + sides[3 * side], (int)sides[3 * side + 1], (int)sides[3 * side + 2]};
}

__device__ inline int clip8(int x) { return x < 0 ? 0 : x > 255 ? 255 : x; }

// One pixel of the resized crop: down the columns first, in 8 bits between, as the CPU does.
__device__ inline void resized_pixel(const u8* crop, int width, filter across, filter down, int x, int y, int* rgb) {
    const u32 *xs = across.words + x * across.stride, *ys = down.words + y * down.stride;
    int sums[3];
    for (int c = 0; c < 3; c++) sums[c] = 1 << (across.precision - 1);
    for (int i = 0; i < (int)xs[1]; i++) {
        int column[3];
        for (int c = 0; c < 3; c++) column[c] = 1 << (down.precision - 1);
        for (int j = 0; j < (int)ys[1]; j++) {
            const u8* from = crop + ((i64)(ys[0] + j) * width + xs[0] + i) * 3;
            for (int c = 0; c < 3; c++) column[c] += from[c] * (int)ys[2 + j];
        }
        for (int c = 0; c < 3; c++) sums[c] += clip8(column[c] >> down.precision) * (int)xs[2 + i];
    }
    for (int c = 0; c < 3; c++) rgb[c] = clip8(sums[c] >> across.precision);
}

__device__ inline float clamp_unit(float x) {
    x = x > 0 ? x : 0;
    return x < 1 ? x : 1;
}

__device__ inline float luma(const float* rgb) { return 0.299f * rgb[0] + 0.587f * rgb[1] + 0.114f * rgb[2]; }

__device__ inline void blend(float* rgb, float factor, float base) {
    for (int c = 0; c < 3; c++) rgb[c] = clamp_unit(rgb[c] * factor + (1 - factor) * base);
}

__device__ inline float hue_channel(float k, float largest, float chroma) {
    k -= 6.0f * floorf(k * (1.0f / 6.0f));
    float other = 4.0f - k;
    return largest - chroma * clamp_unit(k < other ? k : other);
}

__device__ inline void turn_hue(float* rgb, float turn) {
    float r = rgb[0], g = rgb[1], b = rgb[2];
    float largest = r > g ? r : g, least = r < g ? r : g;
    largest = largest > b ? largest : b;
    least = least < b ? least : b;
    float chroma = largest - least, inverse = 1.0f / (chroma > 0 ? chroma : 1.0f);
    float sector = largest == r ? (g - b) * inverse : largest == g ? 2.0f + (b - r) * inverse : 4.0f + (r - g) * inverse;
    sector += 6.0f * turn;
    rgb[0] = hue_channel(sector + 5.0f, largest, chroma);
    rgb[1] = hue_channel(sector + 3.0f, largest, chroma);
    rgb[2] = hue_channel(sector + 1.0f, largest, chroma);
}

// The changes from `from` up to `to`; `mean` is what contrast turns about. What is gray has no saturation and no hue.
__device__ inline void change_colors(const u32* view, int from, int to, float mean, float* rgb) {
    for (int i = from; i < to; i++) {
        u32 kind = view[9 + 2 * i];
        float factor = as_float(view[10 + 2 * i]);
        if (kind == BRIGHTNESS) blend(rgb, factor, 0.0f);
        else if (kind == CONTRAST) blend(rgb, factor, mean);
        else if (view[7] & IS_GRAY) continue;
        else if (kind == SATURATION) blend(rgb, factor, luma(rgb));
        else turn_hue(rgb, factor);
    }
}

struct normalization {
    float scale[3], shift[3];
};

// out (views, size, size, 3): a block of 256 threads a view.
extern "C" __global__ void augment_views(const u8* pixels, const u32* views, const u32* sides, const u32* filters, value* out, int size,
                                         normalization normal) {
    __shared__ double room[256];
    const u32* view = views + (i64)blockIdx.x * VIEW_WORDS;
    int width = view[2], changes = view[8], pixel_count = size * size;
    const u8* crop = pixels + ((u64)view[1] << 32 | view[0]) + ((i64)view[4] * width + view[3]) * 3;
    filter across = filter_of(sides, filters, view[5]), down = filter_of(sides, filters, view[6]);
    bool is_gray = view[7] & IS_GRAY, is_flipped = view[7] & IS_FLIPPED;

    auto start = [&](int i, float* rgb) {
        int bytes[3];
        resized_pixel(crop, width, across, down, i % size, i / size, bytes);
        for (int c = 0; c < 3; c++) rgb[c] = bytes[c] / 255.0f;
        if (is_gray) rgb[0] = rgb[1] = rgb[2] = (299.0f * bytes[0] + 587.0f * bytes[1] + 114.0f * bytes[2]) / 255000.0f;
    };

    int contrast = 0;
    while (contrast < changes && view[9 + 2 * contrast] != CONTRAST) contrast++;
    double sum = 0;
    if (contrast < changes) {
        for (int i = threadIdx.x; i < pixel_count; i += blockDim.x) {
            float rgb[3];
            start(i, rgb);
            change_colors(view, 0, contrast, 0.0f, rgb);
            sum += is_gray ? rgb[0] : luma(rgb);
        }
    }
    float mean = (float)(block_sum(sum, room) / pixel_count);
    for (int i = threadIdx.x; i < pixel_count; i += blockDim.x) {
        float rgb[3];
        start(i, rgb);
        change_colors(view, 0, changes, mean, rgb);
        int x = i % size, to = is_flipped ? i - x + size - 1 - x : i;
        for (int c = 0; c < 3; c++) put(&out[((i64)blockIdx.x * pixel_count + to) * 3 + c], rgb[c] * normal.scale[c] + normal.shift[c]);
    }
}
