// NVIDIA's libraries as far as la-core calls them, on the CPU: what tests/gpu/emulate puts in their place.
//
// Kernels are the project's own sources, compiled as C++. The threads of a block are fibers that take turns at each barrier,
// in rising or falling order from block to block, so that what depends on the order shows. Fresh memory holds NaN, and each
// allocation lies between guards that are looked at after every launch. Barriers that not all threads reach stop the program.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

[[noreturn]] static void stop(const std::string& why) {
    fprintf(stderr, "emulator: %s\n", why.c_str());
    fflush(stderr);
    abort();
}

// ---- threads of a block ----

struct Dim3 { unsigned x, y, z; };
static Dim3 blockIdx, threadIdx, blockDim, gridDim;

extern "C" void switch_stack(void** save, void* load);
asm(R"(
.globl switch_stack
switch_stack:
    push %rbp; push %rbx; push %r12; push %r13; push %r14; push %r15
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx; pop %rbp
    ret
)");

struct Fiber {
    std::vector<char> stack;
    void* at = nullptr;
    Dim3 index{};
    bool done = true;
    int line = 0;
};
static std::vector<Fiber> fibers;
static Fiber* running;
static void* scheduler;
static const std::function<void()>* body;

static void enter() {
    (*body)();
    running->done = true;
    switch_stack(&running->at, scheduler);
    stop("a finished thread ran on");
}

static void begin(Fiber& fiber, Dim3 index) {
    if (fiber.stack.empty()) fiber.stack.resize(64 << 10);
    uintptr_t top = ((uintptr_t)fiber.stack.data() + fiber.stack.size()) & ~(uintptr_t)15;
    void** slots = (void**)(top - 24); // a function starts 8 bytes off the alignment
    slots[0] = nullptr; // what `enter` would return to
    slots[-1] = (void*)enter;
    fiber.at = slots - 7; // six registers below the address
    memset(fiber.at, 0, 6 * sizeof(void*));
    fiber.index = index;
    fiber.done = false;
}

static void barrier(int line) {
    running->line = line;
    switch_stack(&running->at, scheduler);
}

static void run_block(const std::function<void()>& kernel, bool is_falling) {
    size_t count = (size_t)blockDim.x * blockDim.y * blockDim.z;
    if (fibers.size() < count) fibers.resize(count);
    body = &kernel;
    for (size_t i = 0; i < count; i++) {
        unsigned x = i % blockDim.x, y = i / blockDim.x % blockDim.y;
        begin(fibers[i], {x, y, (unsigned)(i / blockDim.x / blockDim.y)});
    }
    for (size_t left = count; left > 0;) {
        int line = 0;
        size_t finished = 0;
        for (size_t k = 0; k < count; k++) {
            Fiber& fiber = fibers[is_falling ? count - 1 - k : k];
            if (fiber.done) continue;
            running = &fiber;
            threadIdx = fiber.index;
            switch_stack(&scheduler, fiber.at);
            if (fiber.done) finished++;
            else if (line == 0) line = fiber.line;
            else if (line != fiber.line) stop("threads wait at different barriers");
        }
        if (finished != 0 && finished != left) stop("threads of a block wait at a barrier for others that have ended");
        left -= finished;
    }
}

// ---- the kernels ----

#define __global__
#define __device__
#define __shared__ static
#define __syncthreads() barrier(__LINE__)
#define INFINITY_F INFINITY

static inline float as_float(unsigned bits) { float x; memcpy(&x, &bits, 4); return x; }
static inline unsigned as_bits(float x) { unsigned bits; memcpy(&bits, &x, 4); return bits; }
static inline unsigned rounded_half(float x) {
    unsigned bits = as_bits(x);
    return x == x ? (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16 : 0x7fffu;
}
static inline unsigned round_pair(float low, float high) { return rounded_half(low) | rounded_half(high) << 16; }
template <typename T> static T atomicAdd(T* at, T x) { T old = *at; *at += x; return old; }

typedef std::function<void(void**)> Kernel;

template <typename... A, size_t... I>
static void call(void (*kernel)(A...), void** args, std::index_sequence<I...>) {
    kernel(*(std::remove_reference_t<A>*)args[I]...);
}
template <typename... A>
static Kernel wrap(void (*kernel)(A...)) {
    return [kernel](void** args) { call(kernel, args, std::index_sequence_for<A...>()); };
}

#define VALUE float
namespace in_float {
#include "kernels.inc"
static std::map<std::string, Kernel> all = {
#define KERNEL(name) {#name, wrap(name)},
#include "names.inc"
};
}
#undef VALUE
#undef TILE
#undef PACK
#undef WORDS
#undef NORM_THREADS
#undef UNDER_WAY
#undef VIEW_WORDS
#undef IS_GRAY
#undef IS_FLIPPED
#undef BRIGHTNESS
#undef CONTRAST
#undef SATURATION
#undef MIN_NORM
#undef MAX_TENSORS
#undef CHUNK
#undef BINS
#undef POOL
#undef AT_ONCE
#undef NCE_EPSILON
#undef SHARE_EPSILON
#define VALUE bf16
namespace in_bf16 {
#include "kernels.inc"
static std::map<std::string, Kernel> all = {
#include "names.inc"
};
}

// ---- memory ----

static std::recursive_mutex lock;
#define LOCKED std::lock_guard<std::recursive_mutex> guard(lock)
static const size_t GUARD = 256;
static std::map<char*, size_t> allocations;
static size_t held, most_held, launches;

static char* allocate(size_t bytes) {
    char* base = (char*)aligned_alloc(256, (bytes + 2 * GUARD + 255) / 256 * 256);
    if (!base) return nullptr;
    memset(base, 0x5a, GUARD);
    // Workspaces of a gigabyte stay untouched.
    memset(base + GUARD, 0xff, bytes < ((size_t)64 << 20) ? bytes : 0);
    memset(base + GUARD + bytes, 0x5a, GUARD);
    allocations[base + GUARD] = bytes;
    held += bytes;
    if (held > most_held) most_held = held;
    return base + GUARD;
}

static void check(const char* what) {
    for (auto& [at, bytes] : allocations)
        for (size_t i = 0; i < GUARD; i += 8)
            for (char* side : {at - GUARD, at + bytes})
                if (side[i] != 0x5a || side[i + 7] != 0x5a) stop(std::string(what) + " wrote beside its memory");
}

// What may be full: LA_EMULATED_MIB, or nothing.
static bool is_full(size_t bytes) {
    const char* limit = getenv("LA_EMULATED_MIB");
    return limit && held + bytes > (size_t)atol(limit) << 20;
}

extern "C" {

// ---- driver ----

typedef uint64_t Address;

int cuDriverGetVersion(int* version) {
    const char* pretended = getenv("LA_EMULATED_DRIVER");
    *version = pretended ? atoi(pretended) : 13000;
    return 0;
}
int cuInit(unsigned) { return 0; }
int cuDeviceGetCount(int* count) { *count = 1; return 0; }
int cuDeviceGet(int* device, int ordinal) { *device = ordinal; return 0; }
int cuDevicePrimaryCtxRetain(void** context, int) { *context = (void*)1; return 0; }
int cuDevicePrimaryCtxRelease_v2(int) { return 0; }
int cuDeviceGetAttribute(int* value, int which, int) {
    *value = which == 75 ? 9 : which == 76 ? 0 : 1; // compute capability 9.0; memory pools and all else: yes
    return 0;
}
int cuDeviceGetName(char* name, int len, int) { snprintf(name, len, "emulated on the CPU"); return 0; }
int cuDeviceTotalMem_v2(size_t* bytes, int) { *bytes = (size_t)8 << 30; return 0; }
int cuMemGetInfo_v2(size_t* free, size_t* total) { *total = (size_t)8 << 30; *free = *total - held; return 0; }
static thread_local void* current;
int cuCtxGetCurrent(void** context) { *context = current; return 0; }
int cuCtxSetCurrent(void* context) { current = context; return 0; }
int cuCtxSynchronize() { return 0; }
int cuStreamSynchronize(void*) { return 0; }
// No recording: la-core goes on without.
int cuStreamBeginCapture_v2(void*, int) { return 801; }
int cuStreamCreate(void** stream, unsigned) { *stream = (void*)2; return 0; }
int cuStreamDestroy_v2(void*) { return 0; }
int cuDeviceGetGraphMemAttribute(int, int, void* value) { *(uint64_t*)value = 0; return 0; }
int cuStreamIsCapturing(void*, int* status) { *status = 0; return 0; }
int cuStreamWaitEvent(void*, void*, unsigned) { return 0; }
int cuEventCreate(void** event, unsigned) { *event = (void*)1; return 0; }
int cuEventRecord(void*, void*) { return 0; }
int cuEventSynchronize(void*) { return 0; }
int cuEventDestroy_v2(void*) { return 0; }
int cuGetErrorName(int code, const char** text) { *text = code == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR"; return 0; }
int cuGetErrorString(int code, const char** text) { return cuGetErrorName(code, text); }
int cuDeviceGetDefaultMemPool(void** pool, int) { *pool = (void*)1; return 0; }
int cuMemPoolSetAttribute(void*, int which, void*) {
    if (which == 8) most_held = held; // the high-water mark of what is used
    return 0;
}
int cuMemPoolGetAttribute(void*, int, void* value) { *(uint64_t*)value = most_held; return 0; }

int cuMemAllocAsync(Address* at, size_t bytes, void*) {
    LOCKED;
    if (is_full(bytes)) return 2;
    *at = (Address)allocate(bytes);
    return *at ? 0 : 2;
}
int cuMemAlloc_v2(Address* at, size_t bytes) { return cuMemAllocAsync(at, bytes, nullptr); }
int cuMemFreeAsync(Address at, void*) {
    LOCKED;
    check("something before a free");
    auto found = allocations.find((char*)at);
    if (found == allocations.end()) stop("what is freed was never allocated");
    held -= found->second;
    allocations.erase(found);
    free((char*)at - GUARD);
    return 0;
}
int cuMemHostAlloc(void** at, size_t bytes, unsigned) { *at = calloc(bytes, 1); return *at ? 0 : 2; }
int cuMemFreeHost(void* at) { free(at); return 0; }
int cuMemFree_v2(Address at) { return cuMemFreeAsync(at, nullptr); }
int cuMemsetD8Async(Address at, unsigned char value, size_t bytes, void*) { memset((void*)at, value, bytes); return 0; }
int cuMemsetD8_v2(Address at, unsigned char value, size_t bytes) { memset((void*)at, value, bytes); return 0; }
int cuMemcpyHtoDAsync_v2(Address to, const void* from, size_t bytes, void*) { memcpy((void*)to, from, bytes); return 0; }
int cuMemcpyDtoHAsync_v2(void* to, Address from, size_t bytes, void*) { memcpy(to, (void*)from, bytes); return 0; }
int cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, void*) { memmove((void*)to, (void*)from, bytes); return 0; }

// A module is the name of its type of activations, which NVRTC's stand-in gave as the program.
int cuModuleLoadData(void** module, const void* image) {
    std::string text((const char*)image);
    if (text == "bf16") *module = &in_bf16::all;
    else if (text == "float") *module = &in_float::all;
    else stop("a kernel of candle's is wanted, which cannot be emulated");
    return 0;
}
int cuModuleUnload(void*) { return 0; }
int cuModuleGetFunction(void** function, void* module, const char* name) {
    auto& all = *(std::map<std::string, Kernel>*)module;
    auto found = all.find(name);
    if (found == all.end()) return 500;
    *function = &*found;
    return 0;
}
int cuLaunchKernel(void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned, void*, void** args,
                   void**) {
    LOCKED;
    auto& kernel = *(std::pair<const std::string, Kernel>*)function;
    if (!gx || !gy || !gz || bx * by * bz > 1024 || gy > 65535) return 1;
    gridDim = {gx, gy, gz};
    blockDim = {bx, by, bz};
    launches++;
    std::function<void()> run = [&] { kernel.second(args); };
    for (unsigned y = 0; y < gy; y++)
        for (unsigned x = 0; x < gx; x++) {
            blockIdx = {x, y, 0};
            run_block(run, (x + y + launches) % 2);
        }
    check(kernel.first.c_str());
    return 0;
}

// ---- NVRTC ----

int nvrtcVersion(int* major, int* minor) { *major = *minor = 0; return 0; }
int nvrtcCreateProgram(void** program, const char*, const char*, int, const char* const*, const char* const*) {
    *program = new std::string();
    return 0;
}
int nvrtcCompileProgram(void* program, int count, const char* const* options) {
    for (int i = 0; i < count; i++)
        if (!strncmp(options[i], "-DVALUE=", 8)) *(std::string*)program = options[i] + 8;
    return 0;
}
int nvrtcGetCUBINSize(void* program, size_t* size) { *size = ((std::string*)program)->size() + 1; return 0; }
int nvrtcGetCUBIN(void* program, char* to) { strcpy(to, ((std::string*)program)->c_str()); return 0; }
int nvrtcDestroyProgram(void** program) { delete (std::string*)*program; return 0; }
int nvrtcGetProgramLogSize(void*, size_t* size) { *size = 1; return 0; }
int nvrtcGetProgramLog(void*, char* to) { *to = 0; return 0; }

// ---- cuBLAS and cuRAND ----

int cublasCreate_v2(void** handle) { *handle = (void*)1; return 0; }
int cublasDestroy_v2(void*) { return 0; }
int cublasSetStream_v2(void*, void*) { return 0; }
int cublasSetWorkspace_v2(void*, void*, size_t) { return 0; }
int cublasSetMathMode(void*, int) { return 0; }
int cublasGemmEx(void*, int ta, int tb, int m, int n, int k, const void* alpha, const void* a, int, int lda, const void* b, int, int ldb,
                 const void* beta, void* c, int, int ldc, int, int) {
    const float *x = (const float*)a, *y = (const float*)b;
    float scale = *(const float*)alpha, keep = *(const float*)beta, *out = (float*)c;
    if (lda < (ta ? k : m) || ldb < (tb ? n : k) || ldc < m) return 7;
    for (int j = 0; j < n; j++)
        for (int i = 0; i < m; i++) {
            float sum = 0;
            for (int l = 0; l < k; l++) sum += (ta ? x[l + (int64_t)i * lda] : x[i + (int64_t)l * lda]) * (tb ? y[j + (int64_t)l * ldb] : y[l + (int64_t)j * ldb]);
            float& to = out[i + (int64_t)j * ldc];
            to = scale * sum + (keep ? keep * to : 0);
        }
    return 0;
}
int curandCreateGenerator(void** generator, int) { *generator = (void*)1; return 0; }
int curandDestroyGenerator(void*) { return 0; }
int curandSetPseudoRandomGeneratorSeed(void*, unsigned long long) { return 0; }
int curandSetGeneratorOffset(void*, unsigned long long) { return 0; }
int curandSetStream(void*, void*) { return 0; }

// ---- cuDNN: 2-D convolutions, channels last ----

struct Descriptor { int type, n, c, h, w, pad, stride, math; };
struct Perf { int algorithm, status; float time; size_t memory; int determinism, math, reserved[3]; };
static const int NHWC = 1, BF16 = 9, ALGORITHM = 7, SLOW = 5;
static const size_t WORKSPACE = 128;

int cudnnCreate(void** handle) { *handle = (void*)1; return 0; }
int cudnnSetStream(void*, void*) { return 0; }
const char* cudnnGetErrorString(int) { return "emulated failure"; }
static int create(void** descriptor) { *descriptor = new Descriptor(); return 0; }
int cudnnCreateTensorDescriptor(void** d) { return create(d); }
int cudnnCreateFilterDescriptor(void** d) { return create(d); }
int cudnnCreateConvolutionDescriptor(void** d) { return create(d); }
int cudnnSetTensor4dDescriptor(void* d, int format, int type, int n, int c, int h, int w) {
    *(Descriptor*)d = {type, n, c, h, w, 0, 0, 0};
    return format == NHWC ? 0 : 3;
}
int cudnnSetFilter4dDescriptor(void* d, int type, int format, int k, int c, int h, int w) {
    *(Descriptor*)d = {type, k, c, h, w, 0, 0, 0};
    return format == NHWC ? 0 : 3;
}
int cudnnSetConvolution2dDescriptor(void* d, int ph, int pw, int sh, int sw, int dh, int dw, int mode, int type) {
    *(Descriptor*)d = {type, 0, 0, 0, 0, ph, sh, 0};
    return ph == pw && sh == sw && dh == 1 && dw == 1 && mode == 1 && type == 0 ? 0 : 3;
}
int cudnnSetConvolutionMathType(void* d, int math) { ((Descriptor*)d)->math = math; return 0; }

}

namespace conv {
using in_bf16::bf16;

static float get(const void* at, int type, int64_t i) {
    return type == BF16 ? in_bf16::to_float(((const bf16*)at)[i]) : ((const float*)at)[i];
}
static void set(void* at, int type, int64_t i, float x) {
    if (type == BF16) in_bf16::put(&((bf16*)at)[i], x);
    else ((float*)at)[i] = x;
}
static std::vector<float> read(const void* at, const Descriptor& d) {
    std::vector<float> out((int64_t)d.n * d.c * d.h * d.w);
    for (size_t i = 0; i < out.size(); i++) out[i] = get(at, d.type, i);
    return out;
}

// Adds the products of all three ways: `f(x index, w index, y index)` for runs over the input channels.
template <typename F>
static void each(const Descriptor& x, const Descriptor& w, const Descriptor& y, const Descriptor& conv, F f) {
    for (int n = 0; n < y.n; n++)
        for (int oy = 0; oy < y.h; oy++)
            for (int ox = 0; ox < y.w; ox++)
                for (int ky = 0; ky < w.h; ky++)
                    for (int kx = 0; kx < w.w; kx++) {
                        int iy = oy * conv.stride + ky - conv.pad, ix = ox * conv.stride + kx - conv.pad;
                        if (iy < 0 || iy >= x.h || ix < 0 || ix >= x.w) continue;
                        int64_t from = (((int64_t)n * x.h + iy) * x.w + ix) * x.c, to = (((int64_t)n * y.h + oy) * y.w + ox) * y.c;
                        for (int o = 0; o < y.c; o++) f(from, (((int64_t)o * w.h + ky) * w.w + kx) * w.c, to + o);
                    }
}

static int run(const Descriptor& x, const Descriptor& w, const Descriptor& y, const Descriptor& conv, int way, const void* a, const void* b,
               void* out, float keep) {
    if (x.c != w.c || y.c != w.n || x.n != y.n || x.type != y.type || x.type != w.type) return 3;
    const Descriptor& to = way == 0 ? y : way == 1 ? x : w;
    std::vector<float> first = read(a, way == 1 ? w : x), second = read(b, way == 0 ? w : y), sum((int64_t)to.n * to.c * to.h * to.w);
    int channels = x.c;
    each(x, w, y, conv, [&](int64_t i, int64_t j, int64_t k) {
        if (way == 0) {
            float total = 0;
            for (int c = 0; c < channels; c++) total += first[i + c] * second[j + c];
            sum[k] += total;
        } else if (way == 1) {
            for (int c = 0; c < channels; c++) sum[i + c] += first[j + c] * second[k];
        } else {
            for (int c = 0; c < channels; c++) sum[j + c] += first[i + c] * second[k];
        }
    });
    for (size_t i = 0; i < sum.size(); i++) set(out, to.type, i, sum[i] + (keep ? keep * get(out, to.type, i) : 0));
    return 0;
}

// The first of three algorithms does not work, and the slow one must not be chosen: every other search, as beside other work, times it
// faster than the one that is fast. What is searched over is spoilt.
static int search(const Descriptor& out_shape, void* out, const Descriptor& conv, int* count, Perf* found, size_t size) {
    static int searches = 0;
    if (size < WORKSPACE) return 3;
    Perf slow = {SLOW, 0, 1, WORKSPACE, 0, conv.math, {}}, fast = {ALGORITHM, 0, 0.1f, WORKSPACE, 0, conv.math, {}};
    bool is_disturbed = searches++ % 2 == 0;
    if (is_disturbed) fast.time = 2;
    found[0] = {3, 9, -1, 0, 0, conv.math, {}};
    found[1] = is_disturbed ? slow : fast;
    found[2] = is_disturbed ? fast : slow;
    *count = 3;
    memset(out, 0xff, (int64_t)out_shape.n * out_shape.c * out_shape.h * out_shape.w * (out_shape.type == BF16 ? 2 : 4));
    return 0;
}
}

#define D(x) (*(Descriptor*)x)
extern "C" {
int cudnnFindConvolutionForwardAlgorithmEx(void*, void*, const void*, void*, const void*, void* conv, void* yd, void* y, int, int* count, Perf* found,
                                           void*, size_t size) {
    return conv::search(D(yd), y, D(conv), count, found, size);
}
int cudnnFindConvolutionBackwardDataAlgorithmEx(void*, void*, const void*, void*, const void*, void* conv, void* xd, void* x, int, int* count,
                                                Perf* found, void*, size_t size) {
    return conv::search(D(xd), x, D(conv), count, found, size);
}
int cudnnFindConvolutionBackwardFilterAlgorithmEx(void*, void*, const void*, void*, const void*, void* conv, void* wd, void* w, int, int* count,
                                                  Perf* found, void*, size_t size) {
    return conv::search(D(wd), w, D(conv), count, found, size);
}
int cudnnConvolutionForward(void*, const void*, void* xd, const void* x, void* wd, const void* w, void* conv, int algorithm, void*, size_t size,
                            const void* beta, void* yd, void* y) {
    if (algorithm != ALGORITHM || size != WORKSPACE) return 3;
    return conv::run(D(xd), D(wd), D(yd), D(conv), 0, x, w, y, *(const float*)beta);
}
int cudnnConvolutionBackwardData(void*, const void*, void* wd, const void* w, void* yd, const void* y, void* conv, int algorithm, void*,
                                 size_t size, const void* beta, void* xd, void* x) {
    if (algorithm != ALGORITHM || size != WORKSPACE) return 3;
    return conv::run(D(xd), D(wd), D(yd), D(conv), 1, w, y, x, *(const float*)beta);
}
int cudnnConvolutionBackwardFilter(void*, const void*, void* xd, const void* x, void* yd, const void* y, void* conv, int algorithm, void*,
                                   size_t size, const void* beta, void* wd, void* w) {
    if (algorithm != ALGORITHM || size != WORKSPACE) return 3;
    return conv::run(D(xd), D(wd), D(yd), D(conv), 2, x, y, w, *(const float*)beta);
}
int cudaGetLastError() { return 0; }
}
